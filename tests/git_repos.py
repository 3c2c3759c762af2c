"""Small real git repositories for tests, made with plain git and a fixed identity."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
    "GIT_ALLOW_PROTOCOL": "file",
}


def git(where: Path, *args: str, input: bytes | None = None, **environment: str) -> str:
    """Plain git, with the repository's own configuration in force."""
    done = subprocess.run(
        ["git", *args], cwd=where, input=input, capture_output=True, env=_ENVIRONMENT | environment, check=False
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "replace").strip()


def make_repository(
    where: Path, *commits: Mapping[str, str | bytes | None], options: tuple[str, ...] = ()
) -> list[str]:
    """A repository at `where` with one commit for each mapping (path: content, None to delete). Returns their ids."""
    where.mkdir(parents=True, exist_ok=True)
    git(where, "init", "-q", "-b", "main", *options)
    # What is committed are the bytes given, whatever attributes are among them.
    (where / ".git" / "info").mkdir(exist_ok=True)
    (where / ".git" / "info" / "attributes").write_text("* -text -ident !filter !working-tree-encoding\n")
    return [add_commit(where, files, f"commit {number}") for number, files in enumerate(commits, 1)]


def add_commit(where: Path, files: Mapping[str, str | bytes | None], message: str = "more") -> str:
    for path, content in files.items():
        target = where / path
        if content is None:
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    git(where, "add", "-A", "-f")
    git(where, "commit", "-q", "--allow-empty", "--no-verify", "-m", message)
    return git(where, "rev-parse", "HEAD")


def make_bundle(repository: Path, bundle: Path) -> Path:
    git(repository, "bundle", "create", "-q", str(bundle), "HEAD", "--all")
    return bundle


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and content of everything under `folder`, to show that nothing changed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (about.st_mode, about.st_mtime_ns if not path.is_dir() else 0, content)
    return found
