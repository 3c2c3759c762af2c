"""What a model makes of texts: its residual behind every block, at the places where vectors are read.

Knows prompts, read positions and massive activations. Knows nothing of sides, methods or vectors.

A text is a user message, behind it the generation prompt; for `answer_mean` it is the assistant's answer to one
question. Every sum is in float32 or wider, pads never count, and the result does not depend on how texts share batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from steergraph.base.errors import InputError
from steergraph.engine.activations.capture import block_outputs
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.forward import Forward, pad_left
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.protocol import Message

ReadPosition = Literal["last_prompt_token", "prompt_mean", "answer_mean", "marker"]
READ_POSITIONS: tuple[ReadPosition, ...] = get_args(ReadPosition)
CHUNK = 16
"""Texts between two reports of progress."""
MASSIVE = 10.0
"""A token whose residual is longer than so many times its text's median is a massive activation: it says nothing of the
text, and would drown the rest of a mean. (Sun et al. 2024, "Massive activations in large language models".)"""

Report = Callable[[int], None]
"""Called after each chunk with how many texts it had."""


@dataclass(frozen=True)
class Frame:
    """What stands around a text."""

    system: str | None = None
    question: str | None = None
    """`answer_mean`: the user's words that the text answers."""
    marker: str | None = None
    """`marker`: read at the last token of the last place where this stands in the prompt."""


@dataclass(frozen=True)
class Reading:
    """Residuals of n texts, float32 on the CPU; index k of `layers` is the output of block k."""

    at: dict[ReadPosition, torch.Tensor]
    """[layers, n, hidden] by read position."""
    medians: torch.Tensor
    """[layers, n]: median length of the residual over each text's tokens, the first left out."""
    massive: torch.Tensor
    """[layers]: tokens left out of means for being massive; first tokens, which always are, not counted."""

    def select(self, rows: Sequence[int]) -> "Reading":
        """The reading of some of the texts. `massive` stays that of all."""
        index = torch.tensor(list(rows), dtype=torch.long)
        return Reading({k: v[:, index] for k, v in self.at.items()}, self.medians[:, index], self.massive)


def read_texts(
    loaded: LoadedModel,
    texts: Sequence[str],
    positions: Sequence[ReadPosition] = ("last_prompt_token",),
    *,
    frame: Frame | None = None,
    where: str = "texts",
    batch_size: int = 8,
    report: Report = lambda count: None,
) -> Reading:
    """Read `texts` at `positions`, in one pass. `where` opens an error's line.

    Raises InputError where a text does not fit the window, a marker is not in it, or `positions` mixes an answer's with
    a prompt's.
    """
    around, chat = frame or Frame(), Chat(loaded.tokenizer)
    sequences, spans = [], []
    for index, text in enumerate(texts):
        ids, prompt = _encode(chat, text, around, positions, where)
        if len(ids) > loaded.info.window:
            raise InputError(
                f"{where}: text {index} has {len(ids)} tokens, more than the window of {loaded.info.name} "
                f"({loaded.info.window})"
            )
        if len(ids) - prompt < 1 and "answer_mean" in positions:
            raise InputError(f"{where}: text {index} has no tokens to read")
        sequences.append(ids)
        spans.append([_span(loaded, ids, prompt, position, around, f"{where}: text {index}") for position in positions])
    return _read(loaded, sequences, spans, positions, batch_size, report)


def _encode(
    chat: Chat, text: str, frame: Frame, positions: Sequence[ReadPosition], where: str
) -> tuple[list[int], int]:
    """(token ids, how many of them are the prompt)."""
    opening = (Message(role="system", content=frame.system),) if frame.system is not None else ()
    if "answer_mean" not in positions:
        ids = chat.prompt((*opening, Message(role="user", content=text)))
        return ids, len(ids)
    if len(positions) > 1 or not frame.question:
        raise InputError(f"{where}: answer_mean reads answers to a question: give the question, and no other position")
    prompt = chat.prompt((*opening, Message(role="user", content=frame.question)))
    return prompt + chat.text(text), len(prompt)


def _span(
    loaded: LoadedModel, ids: Sequence[int], prompt: int, position: ReadPosition, frame: Frame, where: str
) -> tuple[int, int]:
    if position == "last_prompt_token":
        return prompt - 1, prompt
    if position == "prompt_mean":
        return min(1, prompt - 1), prompt
    if position == "answer_mean":
        return prompt, len(ids)
    found = _marker(loaded.tokenizer, ids, frame.marker or "")
    if found is None:
        raise InputError(f"{where}: the marker {frame.marker!r} is not in the prompt")
    return found, found + 1


def _marker(tokenizer: Any, ids: Sequence[int], marker: str) -> int | None:
    """The token with which the last `marker` in the prompt is complete, or None."""

    def text_of(count: int) -> str:
        text: str = tokenizer.decode(list(ids[:count]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    start = text_of(len(ids)).rfind(marker) if marker else -1
    if start < 0:
        return None
    low, high = 1, len(ids)
    while low < high:  # the shortest prefix that holds it whole
        middle = (low + high) // 2
        if len(text_of(middle).rstrip("\ufffd")) >= start + len(marker):
            high = middle
        else:
            low = middle + 1
    return low - 1


def _read(
    loaded: LoadedModel,
    sequences: Sequence[Sequence[int]],
    spans: Sequence[Sequence[tuple[int, int]]],
    positions: Sequence[ReadPosition],
    batch_size: int,
    report: Report,
) -> Reading:
    if not sequences:
        raise InputError("nothing to read: no texts")
    layers, count, width = loaded.info.n_layers, len(sequences), loaded.info.hidden_size
    at = {position: torch.empty(layers, count, width) for position in positions}
    medians, massive = torch.empty(layers, count), torch.zeros(layers, dtype=torch.long)
    forward = Forward(loaded)
    for first in range(0, count, CHUNK):
        chunk = range(first, min(first + CHUNK, count))
        order = sorted(chunk, key=lambda row: len(sequences[row]))  # neighbours in length: little is padded
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            padded = pad_left([sequences[row] for row in rows], loaded.pad_id, loaded.device)
            with loaded.lock, torch.no_grad(), block_outputs(loaded.model) as seen:
                forward(padded.ids, padded.mask, padded.positions)
            places = padded.positions.cpu()
            for layer, output in seen.items():
                # float32 before any sum: half precision overflows in norms and loses digits in means.
                hidden = output.float()
                norms = hidden.norm(dim=-1).cpu()
                for index, row in enumerate(rows):
                    counted = places[index] >= (1 if len(sequences[row]) > 1 else 0)
                    median = norms[index][counted].quantile(0.5)
                    huge = norms[index] > MASSIVE * median
                    medians[layer, row] = median
                    massive[layer] += int((huge & counted).sum())
                    for position, (low, high) in zip(positions, spans[row], strict=True):
                        at[position][layer, row] = _mean(hidden[index], places[index], low, high, huge)
        report(len(chunk))
    return Reading(at=at, medians=medians, massive=massive)


def _mean(hidden: torch.Tensor, places: torch.Tensor, low: int, high: int, huge: torch.Tensor) -> torch.Tensor:
    inside = (places >= low) & (places < high)
    kept = inside & ~huge
    used = kept if high - low > 1 and bool(kept.any()) else inside
    return hidden[used.to(hidden.device)].mean(dim=0).cpu()
