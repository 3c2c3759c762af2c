"""Which paths an edit may name. Everything here refuses; nothing here writes.

A path comes from a model, so it is data until `safe_path` has passed it. Without `root` the check is of the words
alone; with it, of the folder too.
"""

import stat
import unicodedata
from pathlib import Path, PurePosixPath

from steergraph.base.errors import InputError

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 1024
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that a person cannot see in a path: control codes, bidi and zero-width marks, separators."""


class UnsafePath(InputError):
    """An edit names a path that is no place for an edit. One line: the path and why."""


def safe_path(path: str, root: Path | None = None) -> str:
    """`path` as a clean relative POSIX path ("./" and doubled slashes gone), or UnsafePath.

    Refused: empty, too long, absolute, a drive letter, a backslash, what cannot be seen (control codes, bidi marks),
    `..`, `.git` in any component and any disguise that some file system takes for it (letter case, trailing dots and
    spaces, `git~1`, `.git::$INDEX_ALLOCATION`), and `.gitmodules`, by which a patch could point at other repositories.
    `.gitignore` and `.gitattributes` are ordinary files.

    With `root`: also where a component is a symbolic link, lies inside another repository (a submodule), a parent is
    no folder, or the path exists and is no regular file.
    """

    def refuse(why: str) -> UnsafePath:
        return UnsafePath(f"{_shown(path)}: {why}")

    if not path.strip():
        raise refuse("the path is empty")
    if len(path.encode("utf-8", "replace")) > _MAX_PATH_BYTES:
        raise refuse("the path is too long")
    if any(unicodedata.category(char) in _UNSEEN for char in path):
        raise refuse("the path has characters that cannot be seen")
    if "\\" in path:
        raise refuse("the path has a backslash: write it with /")
    if path.startswith(("/", "~")) or path[1:2] == ":":
        raise refuse("the path must be relative to the repository's root")
    if path.endswith("/"):
        raise refuse("this names a folder, not a file")
    parts = PurePosixPath(path).parts
    if not parts:
        raise refuse("this names a folder, not a file")
    for part in parts:
        if part == "..":
            raise refuse("the path leads out of the repository")
        if len(part.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
            raise refuse("a name in the path is too long")
        if part != part.strip():
            raise refuse("a name in the path begins or ends with white space")
        name = unicodedata.normalize("NFKC", part).casefold().split(":")[0].rstrip(". ")
        if name in (".git", "git~1"):
            raise refuse("git's own folder is not edited")
        if name in (".gitmodules", "gitmod~1"):
            raise refuse("submodules are not edited")
    if root is not None and (why := _why_not(root, parts)):
        raise refuse(why)
    return "/".join(parts)


def _why_not(root: Path, parts: tuple[str, ...]) -> str | None:
    here = root
    for depth, part in enumerate(parts, 1):
        here = here / part
        try:
            mode = here.lstat().st_mode
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"cannot look at it: {error.strerror}"
        if stat.S_ISLNK(mode):
            return "it is, or is reached through, a symbolic link"
        if depth == len(parts):
            return None if stat.S_ISREG(mode) else "it is no regular file"
        if not stat.S_ISDIR(mode):
            return f"{'/'.join(parts[:depth])} is no folder"
        if (here / ".git").exists():
            return "it lies in a submodule"
    return None


def _shown(path: str) -> str:
    shown = repr(path)
    return shown if len(shown) <= 120 else shown[:100] + "...'"
