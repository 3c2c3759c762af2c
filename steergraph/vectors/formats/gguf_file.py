"""The little of GGUF that control vectors need: typed key-value pairs and one-dimensional F32 tensors.

Knows the container, versions 2 and 3, little-endian. Knows nothing of what keys and tensors mean. Every count and
length is held against the bytes that are there before anything of that size is made.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from steergraph.base.errors import InputError
from steergraph.vectors.formats.common import short
from steergraph.vectors.store.files import MAX_HIDDEN, MAX_LAYERS

MAGIC = b"GGUF"
ALIGNMENT = 32
MAX_KEYS = 4096
MAX_ELEMENTS = 2**20
"""Of all arrays together. A tokenizer has a quarter of it; a control vector none."""
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
U32, BOOL, STRING, ARRAY = 4, 7, 8, 9
F32 = 0

Value = str | int | float | bool


@dataclass(frozen=True)
class Gguf:
    values: Mapping[str, Value]
    """Every pair but the arrays."""
    tensors: Mapping[str, torch.Tensor]
    """Copies, float32, one-dimensional."""


class _Reader:
    def __init__(self, data: bytes, path: Path) -> None:
        self.data, self.path, self.at, self.elements = data, path, 0, 0

    def take(self, size: int, what: str) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise InputError(f"{self.path}: truncated or damaged: {what} reaches beyond its end; copy it again")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, code: str, what: str) -> int:
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize("<" + code), what))
        return int(value)

    def text(self, what: str) -> str:
        raw = self.take(self.number("Q", what), what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: damaged: {what} is not text; copy it again") from error

    def value(self, kind: int, key: str) -> Value | None:
        """One value; None stands for an array, which is passed over."""
        what = f"the value of {short(key)}"
        if kind == STRING:
            return self.text(what)
        if kind in SCALARS:
            code = "<" + SCALARS[kind]
            (value,) = struct.unpack(code, self.take(struct.calcsize(code), what))
            return value  # type: ignore[no-any-return]
        if kind != ARRAY:
            raise InputError(f"{self.path}: damaged: {what} is of no known type ({kind}); copy it again")
        inner, count = self.number("I", what), self.number("Q", what)
        self.elements += count
        if self.elements > MAX_ELEMENTS:
            raise InputError(f"{self.path}: {what} has {count} elements; this is not a control vector")
        if inner in SCALARS:
            self.take(count * struct.calcsize("<" + SCALARS[inner]), what)
        elif inner == STRING:
            for _ in range(count):
                self.take(self.number("Q", what), what)
        else:
            raise InputError(f"{self.path}: {what} is an array of type {inner}, which is not read")
        return None


def parse(data: bytes, path: Path) -> Gguf:
    """What lies in `data`. InputError (one line, with `path`) for anything but a small GGUF of 1-D F32 tensors."""
    reader = _Reader(data, path)
    if reader.take(4, "its magic") != MAGIC:
        raise InputError(f"{path}: not a GGUF file")
    version = reader.number("I", "its version")
    if version not in (2, 3):
        raise InputError(f"{path}: GGUF version {version}, or big-endian; versions 2 and 3, little-endian, are read")
    n_tensors, n_keys = reader.number("Q", "its tensor count"), reader.number("Q", "its key count")
    if n_keys > MAX_KEYS or not 1 <= n_tensors <= MAX_LAYERS:
        raise InputError(
            f"{path}: {n_tensors} tensors and {n_keys} keys; a control vector has 1 to {MAX_LAYERS} tensors"
        )
    values: dict[str, Value] = {}
    for _ in range(n_keys):
        key = reader.text("a key")
        value = reader.value(reader.number("I", f"the type of {short(key)}"), key)
        if key in values:
            raise InputError(f"{path}: damaged: the key {short(key)} is there twice")
        if value is not None:
            values[key] = value
    places = _places(reader, n_tensors)
    alignment = values.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= 2**16 or alignment & (alignment - 1):
        raise InputError(f"{path}: damaged: an alignment of {short(alignment)} bytes")
    start = -(-reader.at // alignment) * alignment
    room = len(data) - start
    if sum(width for width, _ in places.values()) * 4 > room:
        raise InputError(f"{path}: truncated or damaged: its tensors are larger than the file; copy it again")
    tensors = {}
    for name, (width, offset) in places.items():
        if offset % alignment or offset + 4 * width > room:
            raise InputError(f"{path}: truncated or damaged: {name} reaches beyond the file's end; copy it again")
        at = start + offset
        tensors[name] = torch.frombuffer(bytearray(data[at : at + 4 * width]), dtype=torch.float32)
    return Gguf(values, tensors)


def _places(reader: _Reader, count: int) -> dict[str, tuple[int, int]]:
    """Width and offset of each tensor."""
    places: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        raw = reader.text("a tensor's name")
        name = short(raw)[1:-1]
        if raw in places:
            raise InputError(f"{reader.path}: damaged: the tensor {name} is there twice")
        n_dims = reader.number("I", f"the shape of {name}")
        if n_dims != 1:
            raise InputError(f"{reader.path}: {name} has {n_dims} dimensions; a control vector's tensors have 1")
        width = reader.number("Q", f"the shape of {name}")
        kind, offset = reader.number("I", f"the type of {name}"), reader.number("Q", f"the offset of {name}")
        if kind != F32:
            raise InputError(f"{reader.path}: {name} is of GGML type {kind}; a control vector's tensors are F32")
        if not 1 <= width <= MAX_HIDDEN:
            raise InputError(f"{reader.path}: {name} has {width} entries; a direction has 1 to {MAX_HIDDEN}")
        places[raw] = (width, offset)
    return places


def build(values: Mapping[str, str | bool | int], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A GGUF version 3 file. Texts become strings, truth values bools, whole numbers u32; tensors are written F32."""
    head = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(values))]
    for key, value in values.items():
        head.append(_text(key))
        if isinstance(value, bool):
            head.append(struct.pack("<I?", BOOL, value))
        elif isinstance(value, int):
            head.append(struct.pack("<II", U32, value))
        else:
            head += [struct.pack("<I", STRING), _text(value)]
    body, offset = [], 0
    for name, tensor in tensors.items():
        raw = tensor.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4").tobytes()
        head += [_text(name), struct.pack("<IQIQ", 1, len(raw) // 4, F32, offset)]
        body.append(_padded(raw))
        offset += len(body[-1])
    return _padded(b"".join(head)) + b"".join(body)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % ALIGNMENT)
