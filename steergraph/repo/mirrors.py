"""Mirrors of bundles and URLs in the cache folder: made once, complete or not there at all, refreshed when asked.

Knows the cache folder and git's transports. Knows nothing of commits or files. A mirror's configuration holds no URL,
so no credentials either; the password of an https URL reaches git through its environment and a credential helper
bound to that one host, never through a command line.
"""

import hashlib
import os
import re
import shutil
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from steergraph.base.errors import InputError
from steergraph.base.files import held
from steergraph.base.folders import cache_folder
from steergraph.repo.git import NETWORK_TIMEOUT_S, GitError, run_git
from steergraph.repo.local import allow_any_commit
from steergraph.repo.sources import Bundle, Remote

_STAMP = "steergraph-source"
_STALE_S = 86_400.0


def ensure_mirror(source: Bundle | Remote, cache_dir: str | Path | None = None) -> tuple[Path, bool]:
    """The mirror of `source`, and whether it was brought up to date just now.

    Raises InputError where it cannot be cloned; then nothing is left behind.
    """
    folder = cache_folder(cache_dir) / "mirrors"
    mirror = folder / f"{_name_of(source)}.git"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(mirror):
            if not mirror.is_dir():
                _sweep(folder)
                _clone(source, mirror)
                return mirror, True
            if isinstance(source, Bundle) and _stamp(source) != _read(mirror / _STAMP):
                _fetch(source, mirror)
                return mirror, True
            return mirror, False
    except OSError as error:
        raise InputError(f"{folder}: cannot keep a mirror there: {error.strerror}") from error


def refresh_mirror(source: Bundle | Remote, mirror: Path) -> None:
    """Fetch what is new. Raises GitError where the source cannot be reached; the mirror stays as it was."""
    with _locked(mirror):
        _fetch(source, mirror)


def fetch_commit(source: Remote, mirror: Path, sha: str) -> None:
    """Fetch one commit that no branch or tag of the source reaches. Raises GitError where the source refuses it."""
    with _locked(mirror):
        # No ref keeps it: a mirror is never collected, and a ref would be pruned by the next refresh.
        _run(source, ["fetch", "--quiet", "--no-write-fetch-head", _address(source), sha], mirror)


def _clone(source: Bundle | Remote, mirror: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".new-", dir=mirror.parent) as temporary:
        made = Path(temporary) / "mirror"
        stamp = _stamp(source)
        _run(source, ["clone", "--quiet", "--mirror", "--", _address(source), str(made)])
        run_git(["config", "--file", str(made / "config"), "--remove-section", "remote.origin"])
        allow_any_commit(made)
        (made / _STAMP).write_text(stamp, encoding="utf-8")
        made.rename(mirror)


def _fetch(source: Bundle | Remote, mirror: Path) -> None:
    stamp = _stamp(source)
    _run(source, ["fetch", "--quiet", "--prune", "--no-write-fetch-head", _address(source), "+refs/*:refs/*"], mirror)
    heads = _run(source, ["ls-remote", "--symref", _address(source), "HEAD"], mirror).decode("utf-8", "replace")
    if named := re.search(r"^ref: (refs/\S+)\tHEAD$", heads, flags=re.MULTILINE):
        run_git(["symbolic-ref", "HEAD", named[1]], mirror)
    (mirror / _STAMP).write_text(stamp, encoding="utf-8")


def _run(source: Bundle | Remote, args: list[str], cwd: Path | None = None) -> bytes:
    """Git with the source's transport and credentials; failures name the source."""
    protocols, settings, environment = ["file"], {}, {}
    if isinstance(source, Remote):
        protocols, settings = [source.scheme], credential_settings(source)
        environment = {"STEERGRAPH_USERNAME": source.username, "STEERGRAPH_PASSWORD": source.password}
    try:
        return run_git(
            args, cwd, timeout=NETWORK_TIMEOUT_S, protocols=protocols, settings=settings, environment=environment
        )
    except GitError as error:
        raise GitError(f"{source}: {error}") from error


def credential_settings(source: Remote) -> dict[str, str]:
    """Settings that make git ask our own environment for the credentials of this one host."""
    if not source.username:
        return {}
    host = "/".join(source.url.split("/")[:3])
    helper = '!f() { printf \'username=%s\\npassword=%s\\n\' "$STEERGRAPH_USERNAME" "$STEERGRAPH_PASSWORD"; }; f'
    return {f"credential.{host}.helper": helper}


def _address(source: Bundle | Remote) -> str:
    return source.url if isinstance(source, Remote) else str(source.path)


def _name_of(source: Bundle | Remote) -> str:
    address = _address(source)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", address.rstrip("/").split("/")[-1].removesuffix(".git"))[:40].strip(
        "-."
    )
    return f"{readable or 'repository'}-{hashlib.sha256(os.fsencode(address)).hexdigest()[:16]}"


def _stamp(source: Bundle | Remote) -> str:
    """What tells one state of a bundle file from the next; a URL has nothing of the kind."""
    if isinstance(source, Remote):
        return source.url
    about = source.path.stat()
    return f"{about.st_size} {about.st_mtime_ns}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-made."""
    for left in folder.glob(".new-*"):
        if time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)


def _locked(mirror: Path) -> AbstractContextManager[None]:
    return held(mirror.with_name(f"{mirror.name}.lock"), patience_s=None)
