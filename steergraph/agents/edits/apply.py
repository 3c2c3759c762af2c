"""Putting a checked patch into the user's own tree: all files or none, and never over work of theirs.

A file is only replaced where it still reads exactly as the base commit has it. Git is not asked to write anything.
"""

import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from steergraph.agents.edits.patch import safe_path
from steergraph.base.errors import InputError
from steergraph.repo.encoding import to_bytes
from steergraph.repo.local import find_git_dir, is_bare
from steergraph.repo.repository import Repository


def need_work_tree(folder: Path) -> None:
    """Raise InputError where `folder` is no repository with a working tree."""
    if not (folder / ".git").exists():
        raise InputError("--apply changes a working tree: give --repo the folder of a repository")
    if is_bare(find_git_dir(folder)):
        raise InputError(f"--apply changes a working tree, and {folder} is a bare repository: it has none")


def apply_to_tree(repository: Repository, sha: str, tree: Path, files: Mapping[str, str | None]) -> None:
    """Write `files` (path: new text, None to delete) into `tree`. Raises InputError, with nothing changed, where a
    file differs from commit `sha`, is reached through a symlink, or can't be written."""
    targets = {path: _target(tree, path) for path in files}
    for path, target in targets.items():
        if _bytes_of(target) != repository.read_bytes(sha, path):
            raise InputError(f"{path} has changes that are not in commit {sha[:12]}: commit or stash them first")
    staged: dict[str, Path] = {}
    try:
        for path, text in files.items():
            if text is not None:
                staged[path] = _stage(targets[path], to_bytes(path, text))
    except OSError as error:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write into {tree}: {error.strerror}; nothing was changed") from error
    _swap(targets, staged)


def _swap(targets: Mapping[str, Path], staged: Mapping[str, Path]) -> None:
    undo: list[tuple[Path, Path | None]] = []
    try:
        for path, target in targets.items():
            kept = None
            if target.exists():
                kept = target.with_name(f".{secrets.token_hex(8)}.undo")
                os.link(target, kept, follow_symlinks=False)
            undo.append((target, kept))
            if path in staged:
                staged[path].replace(target)
            else:
                target.unlink()
    except BaseException as error:  # Ctrl-C too: all files or none
        for target, kept in reversed(undo):
            if kept is None:
                target.unlink(missing_ok=True)
            else:
                kept.replace(target)
        if isinstance(error, OSError):
            raise InputError(f"cannot change {error.filename}: {error.strerror}; all is as it was") from error
        raise
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
        for _, kept in undo:
            if kept is not None:
                kept.unlink(missing_ok=True)


def _target(tree: Path, path: str) -> Path:
    target = tree / safe_path(path)
    for parent in [target, *target.parents]:
        if parent == tree:
            break
        if parent.is_symlink():
            raise InputError(f"{path}: it is reached through a symbolic link, which a patch never follows")
    return target


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _stage(target: Path, content: bytes) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name that nobody can foresee: a repository could have planted a link there.
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".new")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary = Path(name)
    temporary.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask())
    return temporary


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
