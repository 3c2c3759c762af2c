"""Files of a run that survive a kill: written whole or not at all, or grown by whole lines; and one writer at a time.

Knows files. Knows nothing of what is in them.
"""

import hashlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from steergraph.base.errors import InputError, one_line

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""With this begins the small text that stands for a file whose content Git LFS has not fetched."""
_DRAFT = re.compile(r"\.[0-9a-f]{32}\.tmp")
_PATIENCE_S = 1.0
"""A killed process's lock lives on for a moment in a child that it had forked and that has not started its program."""


class CannotWrite(InputError):
    """A file of the run cannot be written: a full disk, a read-only folder. Nothing more can be kept."""


def file_stem(name: str) -> str:
    """Any name as a file's, without an ending: "django_web/math" gives "django_web%2Fmath"."""
    quoted = quote(name, safe="")
    if len(quoted) > 180:  # file systems allow 255 bytes
        quoted = f"{quoted[:160]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return quoted


def write_whole(target: Path, content: str | bytes, *, parents: bool = False, durable: bool = True) -> Path:
    """Write a file by rename, so that it is there whole or as it was. Returns `target`. Raises CannotWrite.

    With `parents` the folder is made where there is none. Not `durable`: a power cut may lose it, which is quicker.
    """
    draft = draft_of(target)
    try:
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("xb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot write {target}: {error.strerror or error}") from error
    return target


def draft_of(target: Path) -> Path:
    """A name beside `target`, never used before, under which `write_whole` writes it first."""
    return target.with_name(f".{uuid.uuid4().hex}.tmp")


def sweep_drafts(folder: Path) -> None:
    """Remove what a kill in the middle of `write_whole` left anywhere under `folder`. Only for who holds the folder."""
    for left in folder.rglob(".*.tmp"):
        if _DRAFT.fullmatch(left.name) and left.is_file():
            left.unlink(missing_ok=True)


def make_folder(path: str | Path) -> Path:
    """The folder `path`, made where there is none. Raises CannotWrite."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot write into {path}: {error.strerror}") from error
    return folder


def need_writable(target: Path | None) -> None:
    """Before long work whose result goes to `target`: raise InputError where it could not be written there."""
    if target is None:
        return
    if not target.parent.is_dir():
        raise InputError(f"{target}: no such folder; make it first")
    if target.is_dir():
        raise InputError(f"{target}: a folder; name a file in it")
    try:
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise CannotWrite(f"cannot write {target}: {error.strerror}") from error


def write_or_print(target: Path | None, text: str) -> None:
    """Write `text` to `target`, whole, or to the screen where there is none. Raises CannotWrite."""
    if target is None:
        print(text)
    else:
        write_whole(target, text)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add one JSON line. A line that a kill cut short is dropped first. Raises CannotWrite."""
    try:
        with path.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.truncate(_last_line_start(file, size))
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror}") from error


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`, or None where there is none, or none that is whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_lines(path: Path, errors: str = "strict") -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The JSON objects of a file, one a line, with the lines' numbers; of a line that is none, why not. Blank lines are
    passed over. `errors` says what becomes of bytes that are no UTF-8. Raises InputError where it can't be read."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors=errors)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {one_line(str(error), 150)}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found = json.loads(line)
                yield number, found if isinstance(found, dict) else "no object"
            except (ValueError, RecursionError) as error:
                yield number, one_line(str(error), 150)


@contextmanager
def held(
    path: Path, refused: str = "", *, patience_s: float | None = _PATIENCE_S, refusal: type[Exception] = InputError
) -> Iterator[None]:
    """Hold the file `path` across processes and threads. Raises `refusal` with the line `refused` where another one
    holds it for longer than `patience_s`; None waits for as long as it takes.

    The kernel lets go of it when the process ends, however it ends.
    """
    try:
        locked = FileLock(path).acquire(timeout=-1 if patience_s is None else patience_s)
    except Timeout as error:
        raise refusal(refused) from error
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror}") from error
    with locked:
        yield


def _last_line_start(file: Any, size: int) -> int:
    position = size
    while position > 0:
        step = min(65536, position)
        file.seek(position - step)
        found = file.read(step).rfind(b"\n")
        if found >= 0:
            return int(position - step + found + 1)
        position -= step
    return 0
