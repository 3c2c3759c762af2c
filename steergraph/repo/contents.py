"""What a commit's tree holds, read through GitPython's objects: entries, bytes, and text where a file is text.

Knows what makes a file unreadable as text. Knows nothing of where the repository came from. Line endings are kept as
they are; nothing is decoded by a guess (`encoding.py`), so that text written back gives the same bytes.
"""

import stat
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import git

from steergraph.base.bounded import BoundedCache
from steergraph.base.errors import InputError
from steergraph.base.files import LFS_POINTER
from steergraph.base.records import Frozen
from steergraph.base.text import is_text
from steergraph.repo.encoding import to_text
from steergraph.repo.hardened import HardenedRepo
from steergraph.repo.objects import ObjectReader

MAX_TEXT_BYTES = 1_000_000
_KEPT_BYTES = 16_000_000
_ITEM_BYTES = 200
_SUBMODULE = "160000"
_KINDS: dict[str, Literal["file", "symlink", "submodule"]] = {
    "100644": "file",
    "100755": "file",
    "120000": "symlink",
    _SUBMODULE: "submodule",
}


class _Item(NamedTuple):
    path: str
    blob: str
    mode: str


class FileEntry(Frozen):
    """One path of a commit's tree."""

    path: str
    blob: str
    """Object id; of a submodule, the commit it stands at."""
    size: int | None
    """Bytes; None for a submodule, and for an object that this repository lacks."""
    mode: str

    @property
    def kind(self) -> Literal["file", "symlink", "submodule"]:
        return _KINDS.get(self.mode, "file")


class FileText(Frozen):
    """A file's text, or why it has none."""

    path: str
    text: str | None
    reason: str | None = None
    """Set where `text` is None: missing, symlink, submodule, too large, binary, a Git LFS pointer, or neither UTF-8 nor
    in the encoding that it declares."""


class Trees:
    """Lists what commits hold. What was listed is kept by subtree: commits of one repository share most of theirs."""

    def __init__(self, repo: HardenedRepo, reader: ObjectReader) -> None:
        self._repo, self._reader = repo, reader
        self._listed: BoundedCache[tuple[str, str], tuple[list[_Item], list[git.Tree]]] = BoundedCache(_KEPT_BYTES)
        self._sizes: BoundedCache[str, int] = BoundedCache(_KEPT_BYTES)

    def entries(self, sha: str) -> list[FileEntry]:
        """Every entry of the tree of commit `sha`, by path. Names that are not UTF-8 are left out.

        Raises InputError where a tree is missing.
        """
        try:
            items = (
                self._below(git.Commit(self._repo, bytes.fromhex(sha)).tree) if len(sha) == 40 else self._by_git(sha)
            )
        except InputError:
            raise
        except Exception:  # headers and names that GitPython refuses; git itself lists them
            items = self._by_git(sha)
        items = [item for item in items if is_text(item.path)]
        sizes = self._sizes_of([item.blob for item in items if item.mode != _SUBMODULE])
        entries = [FileEntry(path=path, blob=blob, size=sizes.get(blob), mode=mode) for path, blob, mode in items]
        return sorted(entries, key=lambda entry: entry.path)

    def _below(self, tree: git.Tree) -> list["_Item"]:
        items: list[_Item] = []
        level = [tree]
        while level:
            known = self._listed.get_many((str(tree.path), tree.hexsha) for tree in level)
            self._reader.read_ahead([tree.hexsha for tree in level if (str(tree.path), tree.hexsha) not in known])
            below: list[git.Tree] = []
            for tree in level:
                key = str(tree.path), tree.hexsha
                if key not in known:
                    known[key] = _split(tree)
                    self._listed.put(key, known[key], _ITEM_BYTES * (len(known[key][0]) + len(known[key][1])))
                items += known[key][0]
                below += known[key][1]
            level = below
        return items

    def _by_git(self, sha: str) -> list["_Item"]:
        lines = self._repo.git.ls_tree("-r", "-z", "--full-tree", sha).split("\0")
        parts = [line.partition("\t") for line in lines if line]
        return [_Item(path, about.split()[2], about.split()[0]) for about, _, path in parts]

    def _sizes_of(self, blobs: Sequence[str]) -> dict[str, int]:
        known = self._sizes.get_many(blobs)
        new = self._reader.sizes([blob for blob in blobs if blob not in known])
        for blob, size in new.items():
            self._sizes.put(blob, size, _ITEM_BYTES)
        return known | new


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
    if data.startswith(LFS_POINTER):
        return FileText(path=path, text=None, reason="a Git LFS pointer: its content is not in the repository")
    if b"\0" in data:
        return FileText(path=path, text=None, reason="binary")
    try:
        return FileText(path=path, text=to_text(path, data))
    except ValueError as error:
        return FileText(path=path, text=None, reason=str(error))


def _split(tree: git.Tree) -> tuple[list[_Item], list[git.Tree]]:
    """What lies in a tree itself, and its folders."""
    items: list[_Item] = []
    folders: list[git.Tree] = []
    for item in tree:
        if isinstance(item, git.Tree):
            folders.append(item)
        else:
            items.append(_Item(str(item.path), item.hexsha, _mode(item.mode)))
    return items, folders


def _mode(mode: int) -> str:
    """As git writes it today: trees of its first years have others."""
    if stat.S_ISREG(mode):
        return "100755" if mode & 0o100 else "100644"
    return f"{mode:06o}"
