"""A repository, opened from a folder, a bundle or a URL: its commits' files, and working copies of one commit.

Knows which commit was meant and where to read it. A folder is read through a view (`local.py`), a bundle or a URL
through a mirror (`mirrors.py`); both are repositories of ours, so git never reads the user's configuration and nothing
is ever written to the user's repository. Safe to use from several threads.
"""

import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from steergraph.base.bounded import BoundedCache
from steergraph.base.errors import InputError
from steergraph.repo import contents, local, mirrors
from steergraph.repo.contents import FileEntry, FileText
from steergraph.repo.git import GitError, redact, run_git
from steergraph.repo.hardened import HardenedRepo
from steergraph.repo.objects import ObjectReader, find_missing, missing_objects
from steergraph.repo.sources import Folder, Remote, Source, parse_source
from steergraph.repo.working_copy import WorkingCopy, make_working_copy

_LOG = logging.getLogger(__name__)
_HEX = re.compile(r"[0-9a-fA-F]{4,64}")
_FULL = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_KEPT_TREES = 8


class Repository:
    """Made by `Repository.open`. Closing it, or leaving it as a context manager, removes a folder's view only (and ends
    the processes of git that read from it)."""

    def __init__(self, source: Source, git_dir: Path, origin: Path | None, fresh: bool) -> None:
        self.source = str(source)
        """What was opened: an absolute path, or a URL without credentials."""
        self.git_dir = git_dir
        """The view or mirror: a bare repository of ours. Read it; its refs may change under you."""
        self.objects = ObjectReader(git_dir)
        self.repo = HardenedRepo(git_dir, self.objects)
        """The same for GitPython: its commits, trees and blobs. Of a SHA-1 repository."""
        self._source = source
        self._origin = origin
        self._fresh = fresh
        self._lists = contents.Trees(self.repo, self.objects)
        self._trees: BoundedCache[str, dict[str, FileEntry]] = BoundedCache(_KEPT_TREES)
        self._lock = Lock()
        self._finalizer = weakref.finalize(self, shutil.rmtree, git_dir.parent, True) if origin else None

    @classmethod
    def open(cls, source: str | Path, *, cache_dir: str | Path | None = None) -> "Repository":
        """Open the repository at `source`: a folder (work tree or bare), a bundle file, or an https, ssh, git or file
        URL.

        A bundle or URL is mirrored once, under `cache_dir`/mirrors (the default folder is STEERGRAPH_CACHE, else
        XDG_CACHE_HOME/steergraph, else ~/.cache/steergraph). Raises InputError where there is no repository, where it
        is empty, or where it can't be reached.
        """
        parsed = parse_source(source)
        if isinstance(parsed, Folder):
            origin = local.find_git_dir(parsed.path)
            folder = Path(tempfile.mkdtemp(prefix="steergraph-view-"))
            try:
                local.make_view(origin, folder / "view.git")
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            opened = cls(parsed, folder / "view.git", origin, fresh=True)
        else:
            mirror, fresh = mirrors.ensure_mirror(parsed, cache_dir)
            opened = cls(parsed, mirror, None, fresh)
        if opened._is_empty():
            opened.close()
            raise InputError(f"{opened.source}: the repository is empty: it has no commit yet")
        return opened

    def close(self) -> None:
        """End what reads from git, and remove the view, if there is one. Idempotent."""
        self.objects.close()
        self.repo.close()
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Repository({self.source!r})"

    def resolve(self, commit: str | None = None) -> str:
        """The full id of `commit` (a full or short id, a branch, a tag, HEAD~2, ...); None is HEAD.

        A name is looked up as the source has it now; a full id that is at hand is looked up nowhere else. Raises
        InputError where it is unknown, ambiguous, or no commit's name.
        """
        name = "HEAD" if commit is None else _checked_name(commit)
        if self._trees.get_many([name]):
            return name
        try:
            if _FULL.fullmatch(name.lower()):
                return self._commit_of(name)
        except GitError:
            pass
        self._refresh(name)
        try:
            return self._commit_of(name)
        except GitError as error:
            raise InputError(self._why_unknown(name, str(error))) from error

    def files(self, sha: str) -> list[FileEntry]:
        """Every entry of commit `sha` (a full id), by path; symlinks and submodules too (`FileEntry.kind`)."""
        return list(self._tree(sha).values())

    def read_text(self, sha: str, path: str) -> str | None:
        """The text of `path` at commit `sha`, line endings kept; None where it has none (`read` says why)."""
        return self.read(sha, path).text

    def read(self, sha: str, path: str) -> FileText:
        """The text of `path` at commit `sha`, or why it has none."""
        return next(self.read_many(sha, [path]))

    def read_many(self, sha: str, paths: Iterable[str]) -> Iterator[FileText]:
        """The texts of `paths` at commit `sha`, in their order, streamed."""
        tree = self._tree(sha)
        wanted = list(paths)
        known = contents.read_texts(self.objects, [tree[path] for path in wanted if path in tree])
        for path in wanted:
            yield next(known) if path in tree else FileText(path=path, text=None, reason="no such file")

    def read_entries(self, entries: Sequence[FileEntry], keep: bool = True) -> Iterator[FileText]:
        """The texts of `entries` (from `files`), in their order, streamed. `keep` them a while for the next reader."""
        return contents.read_texts(self.objects, entries, keep)

    def read_bytes(self, sha: str, path: str) -> bytes | None:
        """The bytes of the regular file `path` at commit `sha`, of any size; None where there is no such file."""
        entry = self._tree(sha).get(path)
        if entry is None or entry.kind != "file":
            return None
        return next(self.objects.read([entry.blob]))

    def working_copy(self, sha: str, into: Path) -> WorkingCopy:
        """A fresh repository in the new folder `into` that holds commit `sha` alone, checked out. See `WorkingCopy`.

        Use it as a context manager: leaving removes the folder.
        """
        full = self.resolve(sha)
        links = [entry.path for entry in self.files(full) if entry.kind == "symlink"]
        return make_working_copy(self.git_dir, full, links, Path(into))

    def _tree(self, sha: str) -> dict[str, FileEntry]:
        if known := self._trees.get_many([sha]):
            return known[sha]
        full = self.resolve(sha)
        try:
            tree = {entry.path: entry for entry in self._lists.entries(full)}
        except GitError as error:
            raise (missing_objects(find_missing(self.git_dir, full)) or error) from error
        self._trees.put(full, tree, 1)
        return tree

    def _commit_of(self, name: str) -> str:
        return str(self.repo.git.rev_parse("--verify", "--end-of-options", f"{name}^{{commit}}"))

    def _has(self, name: str) -> bool:
        try:
            return bool(self._commit_of(name))
        except GitError:
            return False

    def _refresh(self, name: str) -> None:
        """Bring refs, and for a URL the objects, up to date; once for each opened URL, plus once for a missing id."""
        with self._lock:
            if self._origin is not None:
                local.copy_refs(self._origin, self.git_dir)
                return
            full = _FULL.fullmatch(name.lower())
            if not isinstance(self._source, Remote) or (self._fresh and not full):
                return
            try:
                if not self._fresh:
                    self._fresh = True
                    mirrors.refresh_mirror(self._source, self.git_dir)
                if full and not self._has(name.lower()):
                    mirrors.fetch_commit(self._source, self.git_dir, name.lower())
            except GitError as error:
                _LOG.warning("using the mirror as it is: %s", error)

    def _is_empty(self) -> bool:
        packed = self.git_dir / "packed-refs"
        if packed.is_file() and "refs/" in packed.read_text(encoding="utf-8", errors="replace"):
            return False
        if run_git(["for-each-ref", "--count=1"], self.git_dir).strip() or self._origin_is_reftable():
            return False
        return not self._has("HEAD")

    def _origin_is_reftable(self) -> bool:
        return self._origin is not None and local.is_reftable(self._origin)

    def _why_unknown(self, name: str, said: str) -> str:
        shown = redact(name)[:100]
        if "ambiguous" in said:
            return f"{self.source}: {shown} is ambiguous: more than one commit starts so; give more digits"
        if self._origin_is_reftable():
            return f"{self.source}: refs stored as reftable are not read here: give the full commit id"
        if (self.git_dir / "shallow").is_file():
            return f"{self.source}: no commit {shown}: the repository is shallow; `git fetch --unshallow` gets the rest"
        if name == "HEAD":
            return f"{self.source}: HEAD names no commit: name a branch or a commit"
        hint = "" if _HEX.fullmatch(name) else " (a branch of a remote is origin/NAME)"
        return f"{self.source}: no commit {shown} there{hint}"


def _checked_name(commit: str) -> str:
    name = commit.strip()
    if not name:
        raise InputError("the commit is empty: give an id, a branch or a tag, or leave it out for HEAD")
    if name.startswith("-"):
        raise InputError(f"{redact(name)[:100]!r}: a commit cannot start with `-`")
    if len(name) > 250 or re.search(r"[\s:?*\[\\\x00-\x1f\x7f]", name) or ".." in name:
        raise InputError(f"{redact(name)[:100]!r}: not the name of one commit")
    return name
