"""What a commit's tree holds, read from the object database: entries, bytes, and text where a file is text.

Knows git's object commands and what makes a file unreadable as text. Knows nothing of where the repository came from.
Line endings are kept as they are; nothing is decoded by a guess, so that text written back gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from steergraph.repo.git import run_git
from steergraph.repo.objects import ObjectReader

MAX_TEXT_BYTES = 1_000_000
_LFS = b"version https://git-lfs.github.com/spec/"
_KINDS: dict[str, Literal["file", "symlink", "submodule"]] = {
    "100644": "file",
    "100664": "file",
    "100755": "file",
    "120000": "symlink",
    "160000": "submodule",
}


class FileEntry(BaseModel):
    """One path of a commit's tree."""

    model_config = ConfigDict(frozen=True)

    path: str
    blob: str
    """Object id; of a submodule, the commit it stands at."""
    size: int | None
    """Bytes; None for a submodule, and for an object that this repository lacks."""
    mode: str

    @property
    def kind(self) -> Literal["file", "symlink", "submodule"]:
        return _KINDS.get(self.mode, "file")


class FileText(BaseModel):
    """A file's text, or why it has none."""

    model_config = ConfigDict(frozen=True)

    path: str
    text: str | None
    reason: str | None = None
    """Set where `text` is None: missing, symlink, submodule, too large, binary, not UTF-8, a Git LFS pointer."""


def list_tree(git_dir: Path, sha: str) -> list[FileEntry]:
    """Every entry of the tree of commit `sha`, by path. Names that are not UTF-8 are left out."""
    entries = []
    for line in run_git(["ls-tree", "-r", "-z", "-l", "--full-tree", sha], git_dir).split(b"\0"):
        about, _, name = line.partition(b"\t")
        if not about:
            continue
        mode, _, blob, size = about.decode("ascii").split()
        try:
            path = name.decode("utf-8")
        except UnicodeDecodeError:
            continue
        entries.append(FileEntry(path=path, blob=blob, size=int(size) if size.isdigit() else None, mode=mode))
    return sorted(entries, key=lambda entry: entry.path)


def why_no_text(entry: FileEntry) -> str | None:
    """Why `entry` is not read as text, as far as that shows without its bytes."""
    if entry.kind != "file":
        return f"a {entry.kind}"
    if entry.size is None:
        return "its object is missing here (a partial clone?)"
    if entry.size > MAX_TEXT_BYTES:
        return f"larger than {MAX_TEXT_BYTES:,} bytes"
    return None


def read_texts(reader: ObjectReader, entries: Sequence[FileEntry], keep: bool = True) -> Iterator[FileText]:
    """The text of each of `entries`, in their order; `keep` as in `ObjectReader.read`."""
    contents = reader.read([entry.blob for entry in entries if why_no_text(entry) is None], keep)
    for entry in entries:
        reason = why_no_text(entry)
        if reason is not None:
            yield FileText(path=entry.path, text=None, reason=reason)
        else:
            yield decode(entry.path, next(contents))


def decode(path: str, data: bytes) -> FileText:
    """`data` as text, or the reason why it is none."""
    if data.startswith(_LFS):
        return FileText(path=path, text=None, reason="a Git LFS pointer: its content is not in the repository")
    if b"\0" in data:
        return FileText(path=path, text=None, reason="binary")
    try:
        return FileText(path=path, text=data.decode("utf-8"))
    except UnicodeDecodeError:
        return FileText(path=path, text=None, reason="not UTF-8")
