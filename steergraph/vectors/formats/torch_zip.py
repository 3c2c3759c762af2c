"""A `.pt` file read without running what is in it: looked through first, then loaded with `weights_only=True`.

`weights_only` keeps code from running, but takes a file's word for how many numbers lie in a record, for how far a
compressed record unfolds. So the pickle is first followed here, opcode by opcode, over the few that `torch.save` writes
for dictionaries of tensors, and what it says of its records is held against them. Only what was looked at is then
handed on. Knows nothing of what the dictionaries mean.
"""

import io
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from steergraph.base.errors import InputError
from steergraph.vectors.formats.common import short

MAX_PICKLE = 2**20
MAX_RECORDS = 4096
ITEM_BYTES = {"FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2}
CONSTANTS = {"EMPTY_DICT", "EMPTY_TUPLE", "NONE", "NEWTRUE", "NEWFALSE"}
NUMBERS_AND_TEXTS = {"BINFLOAT", "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"}
GLOBALS = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict", *(f"torch {name}" for name in ITEM_BYTES)}


class _Odd(Exception):
    """The pickle says something that no dictionary of tensors needs. The message is for a person."""


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    numel: int
    item_bytes: int


class _Tensor:
    """Stands where a tensor would be built."""


_MARK = object()


def load(data: bytes, path: Path) -> Any:
    """What `torch.save` put there: dictionaries, texts, numbers and float tensors, on the CPU. Raises InputError."""
    try:
        packed = _looked_at(data)
        return torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    except _Odd as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # zipfile and pickletools raise whatever their parsing runs into
        raise InputError(f"{path}: truncated, damaged or not written by torch.save; make or copy it again") from error


def _looked_at(data: bytes) -> bytes:
    """A new archive of the pickle and the records it names, where all is as `torch.save` leaves it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {record.filename: record for record in archive.infolist()}
        if len(records) < len(archive.infolist()) or len(records) > MAX_RECORDS:
            raise _Odd("damaged: one record is there twice, or there are too many; make or copy it again")
        if any(record.compress_type or record.flag_bits & 1 for record in records.values()):
            raise _Odd("its records are compressed or locked, which torch.save never does; save it again")
        if sum(record.file_size for record in records.values()) > len(data):
            raise _Odd("damaged: its records are larger than the file; make or copy it again")
        pickles = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1 or records[pickles[0]].file_size > MAX_PICKLE:
            raise _Odd("not a small file of torch.save: no data.pkl, or one of more than a MiB")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in records and archive.read(f"{folder}byteorder") != b"little":
            raise _Odd("written on a big-endian machine; load and save it on another")
        program = archive.read(pickles[0])
        kept = io.BytesIO()
        with zipfile.ZipFile(kept, "w", zipfile.ZIP_STORED) as copy:
            copy.writestr("archive/data.pkl", program)
            copy.writestr("archive/version", b"3\n")
            copy.writestr("archive/byteorder", b"little")
            for storage in sorted(_follow(program), key=lambda storage: storage.key):
                record = records.get(f"{folder}data/{storage.key}")
                if record is None or record.file_size != storage.numel * storage.item_bytes:
                    raise _Odd("damaged: a tensor is not as large as the file says; make or copy it again")
                copy.writestr(f"archive/data/{storage.key}", archive.read(record))
        return kept.getvalue()


def _follow(program: bytes) -> set[_Storage]:
    """The storages that a pickle names. _Odd for every opcode and every object that a dictionary of tensors lacks."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    storages: dict[str, _Storage] = {}
    for opcode, argument, _ in pickletools.genops(program):
        name = opcode.name
        if name in CONSTANTS:
            stack.append({"EMPTY_DICT": {}, "EMPTY_TUPLE": (), "NONE": None}.get(name, name == "NEWTRUE"))
        elif name in NUMBERS_AND_TEXTS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            if argument not in GLOBALS:
                raise _Odd(_foreign(str(argument)))
            stack.append(_Global(str(argument)))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(_above_mark(stack) if name == "TUPLE" else _last(stack, int(name[-1]))))
        elif name in ("SETITEM", "SETITEMS"):
            if len(_above_mark(stack) if name == "SETITEMS" else _last(stack, 2)) % 2 or not isinstance(
                stack[-1], dict
            ):
                raise _Odd("damaged; make or copy it again")
        elif name == "BINPERSID":
            storage = _storage(stack.pop())
            if storages.setdefault(storage.key, storage) != storage:
                raise _Odd("damaged: one record is said to be two; make or copy it again")
            stack.append(storage)
        elif name == "REDUCE":
            stack.append(_REDUCE[_name(stack.pop(-2))](stack.pop()))
        elif name not in ("PROTO", "STOP"):
            raise _Odd(f"its pickle has {name}, which no dictionary of tensors needs; save one again")
    return set(storages.values())


def _foreign(told: str) -> str:
    """`told` is a module and a name in it, as pickle has them."""
    module, _, name = told.partition(" ")
    if module.split(".")[0] in ("torch", "collections"):
        return f"it holds {short(told)}; only dictionaries, texts, numbers and float tensors are read"
    named = ascii(f"{module}.{name}")[1:-1][:120]
    return f"it holds a {named}, and no code of others is run; save its tensors alone, as {{layer: tensor}}, torch.save"


def _last(stack: list[Any], count: int) -> list[Any]:
    taken = stack[-count:]
    del stack[-count:]
    return taken


def _above_mark(stack: list[Any]) -> list[Any]:
    taken: list[Any] = []
    while (top := stack.pop()) is not _MARK:
        taken.append(top)
    return taken[::-1]


def _name(function: Any) -> str:
    return function.name if isinstance(function, _Global) else ""


def _storage(told: Any) -> _Storage:
    kind, storage_type, key, place, numel = told
    name = _name(storage_type).removeprefix("torch ")
    if kind != "storage" or name not in ITEM_BYTES or not isinstance(place, str) or type(numel) is not int or numel < 0:
        raise _Odd("damaged, or its tensors are not of floats; make or copy it again")
    if not isinstance(key, str) or not key.isdecimal() or not key.isascii() or len(key) > 9:
        raise _Odd("damaged: a record has an odd name; make or copy it again")
    return _Storage(key, numel, ITEM_BYTES[name])


def _tensor(told: Any) -> _Tensor:
    storage, offset, size, stride, *_ = told
    whole = [offset, *size, *stride]
    if not isinstance(storage, _Storage) or len(size) != len(stride) or len(size) > 8:
        raise _Odd("damaged: a tensor has an odd shape; make or copy it again")
    if any(type(number) is not int or not 0 <= number < 2**48 for number in whole):
        raise _Odd("damaged: a tensor is larger than what is there; make or copy it again")
    if any(step == 0 and many > 1 for many, step in zip(size, stride, strict=True)):
        raise _Odd("a tensor repeats its numbers; save a copy of it (.contiguous())")
    reach = offset + sum((many - 1) * step for many, step in zip(size, stride, strict=True)) if 0 not in size else -1
    if reach >= storage.numel:
        raise _Odd("damaged: a tensor is larger than what is there; make or copy it again")
    return _Tensor()


def _nothing(told: Any) -> dict[str, Any]:
    if told != ():
        raise _Odd("damaged, or its tensors have hooks; make or copy it again")
    return {}


_REDUCE: dict[str, Callable[[Any], Any]] = {
    "torch._utils _rebuild_tensor_v2": _tensor,
    "collections OrderedDict": _nothing,
}
