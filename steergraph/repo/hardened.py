"""GitPython's command wrapper over the hardened git runner: its words, without the caller's environment or settings.

GitPython hands git the whole environment of the process, where one GIT_DIR misdirects it, and lets the repository's
own configuration speak. Here every command it makes goes through `run_git` instead. Knows nothing of what is cloned.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import git

from steergraph.repo.git import NETWORK_TIMEOUT_S, TIMEOUT_S, run_git


class HardenedGit(git.cmd.Git):
    """GitPython's command wrapper. Its environment (`update_environment`) is added to the fixed one.

    GIT_ALLOW_PROTOCOL in it names the transports that may be used, none by default. Raises GitError.
    """

    def execute(self, command: Any, **_: Any) -> str:  # type: ignore[override]
        words = [str(word) for word in command[1:]]
        environment: Mapping[str, str] = self.environment()
        # A clone belongs to no folder, least of all to the repository that somebody may stand in.
        cloning = words[:1] == ["clone"]
        out = run_git(
            words,
            None if cloning or not self.working_dir else Path(self.working_dir),
            timeout=NETWORK_TIMEOUT_S if cloning else TIMEOUT_S,
            protocols=environment.get("GIT_ALLOW_PROTOCOL", "").split(":"),
            environment={name: value for name, value in environment.items() if name != "GIT_ALLOW_PROTOCOL"},
        )
        return out.decode("utf-8", "surrogateescape").rstrip("\n")
