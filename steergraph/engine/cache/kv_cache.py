"""What a model remembers of its rows: attention's keys and values, and short convolutions' inputs.

Knows transformers' cache layers. Knows nothing of rows' tokens or steering. Rows stand side by side, each ending in the
last column; attention finds its way by columns, so a row may be given more columns on the left, as long as they are
masked, and fewer, as long as those were. That is all there is to joining, leaving and reusing: every one of them is
`gather`.

While a prompt goes through, a layer here keeps every column it is given, sliding windows and convolutions too, so that
a prompt's states can be cut to any length. `layout_of` says for which models all this can be done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

ROOM = 64
"""Free columns come in multiples of this: a step writes one of them, and copies nothing."""


@dataclass(frozen=True)
class Kind:
    """One layer's way of remembering."""

    name: Literal["attention", "convolution"]
    window: int | None = None
    """Columns that attention looks back on, its own included; or the convolution's width."""


Layout = tuple[Kind, ...]
States = tuple[torch.Tensor, ...]
"""One layer's states: (keys, values), each [rows, heads, columns, width]; or (inputs,), [rows, columns, width]."""


@dataclass(frozen=True)
class CachedRows:
    """Rows side by side, each ending in the last column."""

    layers: Sequence[States]
    used: int
    """Columns that count, the last ones. A layer may hold fewer, where it needs no more."""
    rows: torch.Tensor | None = None
    """Which rows count; None for all."""


class Attention(DynamicLayer):  # type: ignore[misc]
    """Keys and values in buffers with room on the right."""

    def __init__(self, window: int | None, states: States | None = None, stored: int = 0, seen: int = 0) -> None:
        """`states` are buffers [rows, heads, columns, width] of which `stored` are filled; `seen` have gone by."""
        super().__init__()
        self.window = window
        self.is_sliding = window is not None
        self.seen, self.stored = seen, stored
        self.buffers = states
        if states is not None:
            self._show()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        new = key_states.shape[-2]
        visible = self._past() + new
        if self.buffers is None or self.stored + new > self.buffers[0].shape[-2]:
            old = self.states() if self.buffers is not None else (key_states[..., :0, :], value_states[..., :0, :])
            self.buffers = tuple(_place([part], self.stored, new) for part in old)
        for buffer, given in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[..., self.stored : self.stored + new, :] = given
        self.seen += new
        self.stored += new
        self._show()
        return self.keys[..., -visible:, :], self.values[..., -visible:, :]

    def states(self) -> States:
        assert self.buffers is not None
        return tuple(buffer[..., : self.stored, :] for buffer in self.buffers)

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._past() + query_length, self.seen - self._past()

    def _past(self) -> int:
        """Columns so far that the next one looks at."""
        return self.seen if self.window is None else min(self.seen, self.window - 1)

    def _show(self) -> None:
        """What transformers looks at."""
        self.keys, self.values = self.states()
        self.device, self.dtype, self.is_initialized = self.keys.device, self.keys.dtype, True


class Convolution(LinearAttentionLayer):  # type: ignore[misc]
    """A convolution's inputs: all of them while `record_past` is set, else the last few."""

    def __init__(self, width: int, states: States | None = None, *, record_past: bool) -> None:
        super().__init__()
        self.record_past = record_past
        if states is not None:
            self.conv_states[0] = states[0].transpose(1, 2).contiguous()
            self.device, self.dtype = self.conv_states[0].device, self.conv_states[0].dtype
            self.conv_kernel_size[0] = width
            self.is_conv_states_initialized[0] = self.has_previous_state[0] = True

    def states(self) -> States:
        return (self.conv_states[0].transpose(1, 2),)


def layout_of(cache: Any) -> Layout | None:
    """How the layers of a cache that the model made itself remember; None where one of them is not known here."""
    if type(cache) is not DynamicCache:
        return None
    kinds = [_kind(layer) for layer in cache.layers]
    return None if None in kinds or not kinds else tuple(kind for kind in kinds if kind)


def _kind(layer: Any) -> Kind | None:
    if type(layer) is DynamicLayer and layer.is_initialized:
        return Kind("attention")
    if type(layer) is DynamicSlidingWindowLayer and layer.is_initialized and layer.sliding_window > 1:
        return Kind("attention", layer.sliding_window)
    # A recurrent state holds its whole past in one place, and can't be cut back.
    recurrent = type(layer) is not LinearAttentionLayer or any(layer.is_recurrent_states_initialized.values())
    if not recurrent and layer.number_of_states == 1 and layer.is_conv_states_initialized[0]:
        return Kind("convolution", layer.conv_kernel_size[0])
    return None


def empty(layout: Layout) -> DynamicCache:
    """A cache that has seen nothing, and will keep everything it sees."""
    return _cache(
        [
            Attention(kind.window) if kind.name == "attention" else Convolution(kind.window or 0, record_past=True)
            for kind in layout
        ]
    )


def states_of(cache: DynamicCache) -> list[States]:
    """The states in `cache`, by layer; views, not copies."""
    return [layer.states() for layer in cache.layers]


def cut(layers: Sequence[States], row: int, start: int, end: int) -> list[States]:
    """A copy of columns [start, end) of one row, by layer, from layers that hold every column."""
    return [tuple(part[row : row + 1, ..., start:end, :].clone() for part in layer) for layer in layers]


def size_of(layers: Sequence[States]) -> int:
    """Bytes."""
    return sum(part.numel() * part.element_size() for layer in layers for part in layer)


def gather(layout: Layout, groups: Sequence[CachedRows], width: int, *, settled: bool) -> DynamicCache:
    """A new cache of `width` columns with the rows of `groups` in order. It shares no memory with them.

    `settled` keeps only what single tokens to come need: the columns in the window, the convolution's width. Otherwise
    every column is kept, and must be there in the groups.
    """
    layers: list[Any] = []
    for index, kind in enumerate(layout):
        needed = width if kind.window is None else kind.window - (kind.name == "attention")
        columns = min(width, needed) if settled and kind.name == "attention" else needed if settled else width
        parts = list(zip(*(_used(group, index, columns) for group in groups), strict=True))
        if kind.name == "attention":
            buffers = tuple(_place(part, columns, 1) for part in parts)
            layers.append(Attention(kind.window, buffers, columns, width))
        else:
            states = tuple(_place(part, columns, 0) for part in parts)
            layers.append(Convolution(kind.window or 0, states, record_past=not settled))
    return _cache(layers)


def _used(group: CachedRows, layer: int, columns: int) -> Iterator[torch.Tensor]:
    for states in group.layers[layer]:
        first = max(0, states.shape[-2] - min(group.used, columns))
        kept = states[..., first:, :]
        yield kept if group.rows is None else kept.index_select(0, group.rows.to(kept.device))


def _place(parts: Sequence[torch.Tensor], columns: int, room: int) -> torch.Tensor:
    """Rows of `parts` below one another, each part ending in column `columns`, with zeros before it; and free columns
    behind, at least `room` of them where that is not 0."""
    first = parts[0]
    rows = sum(len(part) for part in parts)
    capacity = columns if room == 0 else -(-(columns + room) // ROOM) * ROOM
    buffer = first.new_empty((rows, *first.shape[1:-2], capacity, first.shape[-1]))
    row = 0
    for part in parts:
        into = buffer[row : row + len(part), ..., :columns, :]
        start = columns - part.shape[-2]
        into[..., :start, :] = 0
        into[..., start:, :] = part
        row += len(part)
    return buffer


def _cache(layers: list[Any]) -> DynamicCache:
    cache = DynamicCache()
    cache.layers = layers
    return cache
