"""A repository on the user's disk, read without its configuration ever being shown to git, and never written to.

Knows how a repository lies on disk: `.git` folder or file, linked work trees, loose and packed refs, borrowed objects.
A view is a bare repository of our own in a temporary folder: its own configuration, a copy of the user's refs, and the
user's object folder as an alternate. Git then runs in the view alone, so hooks, filters, fsmonitor, ssh commands,
includes, promisor remotes and whatever else the user's `.git/config` names are not there to be run.
"""

import os
import re
import stat
from pathlib import Path

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.repo.git import GitError, run_git

_MAX_REF_BYTES = 4096
_MAX_PACKED_BYTES = 256_000_000
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF = re.compile(r"refs/[^\x00-\x20\x7f~^:?*\[\\]+")


def find_git_dir(folder: Path) -> Path:
    """The git folder of the repository whose top folder, or bare repository, is `folder`. Raises InputError."""
    git = folder / ".git"
    try:
        if git.is_dir():
            found = git
        elif git.exists():
            word, _, target = _small_file(git).partition(":")
            if word.strip() != "gitdir" or not target.strip():
                raise InputError(f"{folder}: not a git repository: its .git file names no folder")
            found = folder / target.strip()
        else:
            found = folder
        found = found.resolve()
        if (found / "HEAD").is_symlink() or (found / "HEAD").is_file():
            common = common_dir(found)
            if (common / "objects").is_dir() and ((common / "refs").is_dir() or (common / "packed-refs").is_file()):
                return found
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: cannot read the repository: {getattr(error, 'strerror', None) or error}"
        ) from error
    raise InputError(f"{folder}: not a git repository: give its top folder, a bundle file or a URL")


def common_dir(git_dir: Path) -> Path:
    """Where objects and shared refs lie: `git_dir` itself, or for a linked work tree what its `commondir` names."""
    pointer = git_dir / "commondir"
    return (git_dir / _small_file(pointer).strip()).resolve() if pointer.is_file() else git_dir


def object_format(git_dir: Path) -> str:
    """ "sha1" or "sha256", read from the configuration file as data (no includes)."""
    return _configured(git_dir, "extensions.objectformat") or "sha1"


def is_bare(git_dir: Path) -> bool:
    """Whether its configuration says that the repository has no working tree."""
    return _configured(git_dir, "core.bare") in ("true", "yes", "on", "1")


def make_view(git_dir: Path, into: Path) -> None:
    """Make the view of the repository at `git_dir` in the new folder `into`. Raises InputError."""
    objects = common_dir(git_dir) / "objects"
    run_git(["init", "--quiet", "--bare", "--template=", f"--object-format={object_format(git_dir)}", "--", str(into)])
    info = into / "objects" / "info"
    info.mkdir(parents=True, exist_ok=True)
    quoted = str(objects.resolve()).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    (info / "alternates").write_bytes(b'"' + os.fsencode(quoted) + b'"\n')
    allow_any_commit(into)
    copy_refs(git_dir, into)


def allow_any_commit(git_dir: Path) -> None:
    """Let a fetch from `git_dir`, a repository of ours, ask for any commit by its id."""
    run_git(["config", "--file", str(git_dir / "config"), "uploadpack.allowAnySHA1InWant", "true"])


def copy_refs(git_dir: Path, view: Path) -> None:
    """Bring the view's HEAD, refs and shallow marks up to the repository's as it is now."""
    common = common_dir(git_dir)
    refs = _packed(common / "packed-refs") | _loose(common)
    packed = "".join(f"{sha} {name}\n" for name, sha in sorted(refs.items()))
    write_whole(view / "packed-refs", os.fsencode(packed), durable=False)
    write_whole(view / "HEAD", os.fsencode(_head(git_dir)), durable=False)
    shallow = common / "shallow"
    if shallow.is_file():
        write_whole(view / "shallow", shallow.read_bytes(), durable=False)
    else:
        (view / "shallow").unlink(missing_ok=True)


def is_reftable(git_dir: Path) -> bool:
    """Whether the refs are stored as reftable, which is not read here."""
    return (common_dir(git_dir) / "reftable").is_dir()


def _configured(git_dir: Path, key: str) -> str:
    config = common_dir(git_dir) / "config"
    if not config.is_file():
        return ""
    try:
        asked = ["config", "--file", str(config), "--no-includes", "--get", key]
        return run_git(asked).decode("ascii", "replace").strip().lower()
    except GitError:  # unset, or a file that git cannot parse, which then tells nothing
        return ""


def _head(git_dir: Path) -> str:
    head = git_dir / "HEAD"
    text = f"ref: {head.readlink()}" if head.is_symlink() else _small_file(head).strip()
    name = text.removeprefix("ref:").strip()
    if text.startswith("ref:") and _REF.fullmatch(name):
        return f"ref: {name}\n"
    if _SHA.fullmatch(text):
        return f"{text}\n"
    raise InputError(f"{git_dir}: its HEAD names no branch and no commit")


def _packed(path: Path) -> dict[str, str]:
    if not path.is_file() or path.stat().st_size > _MAX_PACKED_BYTES:
        return {}
    lines = (line.partition(" ") for line in path.read_text(encoding="utf-8", errors="surrogateescape").split("\n"))
    return {name: sha for sha, _, name in lines if _SHA.fullmatch(sha) and _REF.fullmatch(name)}


def _loose(common: Path) -> dict[str, str]:
    found = {}
    for folder, _, files in os.walk(common / "refs"):
        for file in files:
            path = Path(folder) / file
            name = path.relative_to(common).as_posix()
            if not _REF.fullmatch(name) or not stat.S_ISREG(path.lstat().st_mode):
                continue
            sha = _small_file(path).strip()
            if _SHA.fullmatch(sha):
                found[name] = sha
    return found


def _small_file(path: Path) -> str:
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: not a regular file")
    with path.open("rb") as file:
        return os.fsdecode(file.read(_MAX_REF_BYTES))
