"""GitPython over the one way this package runs git: its objects, without the caller's environment or settings.

GitPython's own commands give git the whole environment of the process, where one GIT_DIR misdirects it, and its `Repo`
looks at the same variables. Here every command it makes goes through `git.py`, and its objects (Commit, Tree, Blob) are
read by `objects.py`. It knows SHA-1 alone.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import git
from git.db import GitCmdObjectDB
from gitdb.base import OInfo, OStream

from steergraph.repo.git import run_git, start_git
from steergraph.repo.objects import ObjectReader


class HardenedGit(git.Git):
    """GitPython's command wrapper. Its environment (`update_environment`) is added to the fixed one.

    Raises GitError; options of `git.Git.execute` that are not here are errors.
    """

    def execute(  # type: ignore[override]
        self,
        command: Sequence[Any],
        istream: Any = None,
        as_process: bool = False,
        stdout_as_string: bool = True,
        strip_newline_in_stdout: bool = True,
    ) -> Any:
        words, where = [str(word) for word in command[1:]], Path(os.fspath(self.working_dir or "/"))
        if as_process:
            return self.AutoInterrupt(start_git(words, where, DEVNULL, environment=self.environment()), words)
        out = run_git(words, where, environment=self.environment())
        out = out.removesuffix(b"\n") if strip_newline_in_stdout else out
        return out.decode("utf-8", "surrogateescape") if stdout_as_string else out


class HardenedDatabase(GitCmdObjectDB):
    """GitPython's object database, whose objects come from an ObjectReader."""

    def __init__(self, git_dir: Path, git: HardenedGit, reader: ObjectReader) -> None:
        super().__init__(str(git_dir / "objects"), git)
        self._reader = reader

    def stream(self, binsha: bytes) -> OStream:
        kind, data = self._reader.read_any(binsha.hex())
        return OStream(binsha, kind, len(data), io.BytesIO(data))

    def info(self, binsha: bytes) -> OInfo:
        found = self.stream(binsha)
        return OInfo(binsha, found.type, found.size)


class HardenedRepo(git.Repo):
    """GitPython's repository, for a bare one of ours. Its objects may be read from several threads."""

    GitCommandWrapperType = HardenedGit

    def __init__(self, git_dir: Path, reader: ObjectReader) -> None:
        # Not GitPython's own constructor, which believes GIT_DIR, GIT_OBJECT_DIRECTORY and others of the caller's.
        self.git_dir = self.working_dir = self._common_dir = str(git_dir)
        self._bare = True
        self.git = HardenedGit(git_dir)
        self.odb = HardenedDatabase(git_dir, self.git, reader)
