"""A fresh repository that holds one commit and nothing of what came after or before it.

Knows how to make it, and how to run git in it. Objects are fetched, not borrowed: no alternates, no remotes, no tags,
no reflogs, one commit deep. The files on disk are the blobs' own bytes: no filter, hook, line-ending conversion or
re-encoding runs, submodules stay empty folders, and a symbolic link that leads out of the tree is a plain file.
"""

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.repo.git import TIMEOUT_S, GitError, run_git
from steergraph.repo.objects import find_missing, missing_objects

# The highest-ranking attributes: they take away what a tree's own .gitattributes would do to bytes and to diffs.
# working-tree-encoding has no "off", so it and the drivers are made unspecified.
_ATTRIBUTES = "* -text -eol -ident -filter !working-tree-encoding !diff !merge\n"
# Links are checked out as plain files at first, so that none can be followed while files are written.
_CONFIG = b"[core]\n\tsymlinks = %s\n\tlogAllRefUpdates = false\n\tautocrlf = false\n"


class WorkingCopy:
    """A checkout of one commit in a repository of its own. A context manager: leaving it removes the folder."""

    def __init__(self, path: Path, base: str, neutralised: tuple[str, ...]) -> None:
        self.path = path
        """Top folder; its `.git` holds the one commit."""
        self.base = base
        """Full id of the commit checked out."""
        self.neutralised = neutralised
        """Symbolic links that would leave the tree: they stand as plain files with the target as their content."""
        self._config = (path / ".git" / "config").read_bytes()

    def git(self, *args: str, input: bytes | None = None, timeout: float = TIMEOUT_S) -> bytes:
        """What `git ARGS` writes, run in the copy. Raises GitError. No transports: it cannot fetch.

        What a program that ran in the copy may have planted in `.git` (configuration, attributes, borrowed objects) is
        put back first, so that it can't make this call start anything.
        """
        self._restore()
        return run_git(args, self.path, input, timeout)

    def close(self) -> None:
        """Remove the folder. Idempotent."""
        remove_tree(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _restore(self) -> None:
        git_dir = self.path / ".git"
        if git_dir.is_symlink() or not git_dir.is_dir():
            raise GitError(f"{self.path}: its .git folder was replaced")
        for planted in ("commondir", "config.worktree", "objects/info/alternates"):
            (git_dir / planted).unlink(missing_ok=True)
        _write(git_dir / "config", self._config)
        _write(git_dir / "info" / "attributes", _ATTRIBUTES.encode())


def make_working_copy(source: Path, sha: str, links: Sequence[str], into: Path) -> WorkingCopy:
    """Check commit `sha` of `source`, a view or mirror of ours, out into the new folder `into`.

    `links` are the paths that are symbolic links in it.

    Raises InputError where `into` exists and is not empty, or where objects of the commit are missing; then `into` is
    left as it was.
    """
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise InputError(f"{into}: a working copy needs a new or empty folder")
    existed = into.is_dir()
    try:
        return _make(source, sha, links, into.absolute())
    except BaseException as error:
        remove_tree(into)
        if existed:
            into.mkdir()
        if isinstance(error, OSError):
            raise InputError(f"{into}: cannot make a working copy there: {error.strerror}") from error
        raise


def _make(source: Path, sha: str, links: Sequence[str], into: Path) -> WorkingCopy:
    into.mkdir(parents=True, exist_ok=True)
    object_format = "sha256" if len(sha) == 64 else "sha1"
    run_git(["init", "--quiet", "--template=", f"--object-format={object_format}"], into)
    git_dir = into / ".git"
    config = (git_dir / "config").read_bytes()
    _write(git_dir / "config", config + _CONFIG % b"false")
    _write(git_dir / "info" / "attributes", _ATTRIBUTES.encode())
    fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1", "--", str(source.resolve()), sha]
    try:
        run_git(fetch, into, protocols=["file"])
        run_git(["update-ref", "--no-deref", "HEAD", sha], into)
        run_git(["read-tree", "--reset", "-u", "HEAD"], into)
    except GitError as error:
        missing = missing_objects(find_missing(source, sha))
        raise GitError(f"cannot check out {sha[:12]}: {missing or error}") from error
    _write(git_dir / "config", config + _CONFIG % b"true")
    return WorkingCopy(into, sha, _make_links(into, links))


def _make_links(root: Path, links: Sequence[str]) -> tuple[str, ...]:
    """Turn the plain files that stand for symbolic links into links, where they stay inside. Return those left plain.

    The links are made together and judged by where they really lead, since one link can bend the way of another;
    removing one can bend others again, so it goes on until nothing changes.
    """
    targets = {path: (root / path).read_bytes() for path in links if (root / path).is_file()}
    for path, target in targets.items():
        (root / path).unlink()
        (root / path).symlink_to(os.fsdecode(target))
    kept = dict(targets)
    while escaping := [path for path in kept if _escapes(root, path)]:
        for path in escaping:
            (root / path).unlink()
            (root / path).write_bytes(kept.pop(path))
    plain = sorted(targets.keys() - kept.keys())
    if plain:
        run_git(["update-index", "--assume-unchanged", "-z", "--stdin"], root, "\0".join([*plain, ""]).encode())
    if kept:
        run_git(["update-index", "-q", "--refresh"], root)
    return tuple(plain)


def _escapes(root: Path, path: str) -> bool:
    try:
        inside = Path(os.path.realpath(root / path)).relative_to(os.path.realpath(root)).parts
    except (ValueError, OSError):
        return True
    return bool(inside) and inside[0].casefold() == ".git"


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    write_whole(path, content, parents=True, durable=False)


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, folders without write permission too; never what a link in it points at."""

    def loosen(function: Callable[..., Any], name: str, _: object) -> None:
        parent = Path(name).parent
        parent.chmod(parent.stat().st_mode | stat.S_IRWXU)
        if not Path(name).is_symlink() and Path(name).is_dir():
            Path(name).chmod(stat.S_IRWXU)
            shutil.rmtree(name, ignore_errors=True)
        else:
            Path(name).unlink(missing_ok=True)

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=loosen)
