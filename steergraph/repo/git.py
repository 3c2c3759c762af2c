"""The one way this package runs git: fixed settings, the repository's own configuration, nothing of the caller's.

Knows how to start git safely, how to stop it, and how to tell what went wrong without giving a password away. Knows
nothing of clones, commits or files. Configuration of the machine and of the user is not read, no GIT_* variable of the
caller is handed on, and settings that would start a program are overridden. What a repository's own configuration can
still name (filters, diff and merge drivers) is the reason why only repositories that this package made are opened: a
user's is read through `local.py`, which never shows git its configuration.

GitPython's commands run through it too (`hardened.py`).
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from steergraph.base.cancellation import LOOK_S, Stopped, stoppable, stopped
from steergraph.base.errors import InputError

NEEDED = (2, 32)
"""The oldest version: earlier ones read the user's own configuration whatever GIT_CONFIG_GLOBAL says."""
TIMEOUT_S = 120.0
NETWORK_TIMEOUT_S = 3600.0

_KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_EDITOR": "false",
    "GIT_PAGER": "cat",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_SSH_VARIANT": "ssh",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_CEILING_DIRECTORIES": "/",
}
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.askPass": "",
    "core.pager": "cat",
    "core.editor": "false",
    "core.gitProxy": "",
    "core.autocrlf": "false",
    "core.eol": "lf",
    "core.safecrlf": "false",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.commitGraph": "false",
    "credential.helper": "",
    "protocol.allow": "never",
    "protocol.ext.allow": "never",
    "http.lowSpeedLimit": "100",
    "http.lowSpeedTime": "120",
    "transfer.bundleURI": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "fetch.writeCommitGraph": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "init.templateDir": "",
    "init.defaultBranch": "main",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "log.showSignature": "false",
    "advice.detachedHead": "false",
}
_USERINFO = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]*)://([^\s/'\"]*)@")
_SECRET_PARAMETER = re.compile(r"(?i)([?&;](?:[\w-]*token|key|api_?key|password|passwd|secret|auth)=)[^\s&;'\"]+")


class GitError(InputError):
    """Git could not do what was asked. One line: which command, and git's own last words, without credentials."""


def redact(text: str) -> str:
    """`text` without the user names and passwords of its URLs, and without tokens in their queries.

    A URL stays one that can be opened: an ssh URL keeps its user, which is no secret and is needed.
    """

    def keep(match: re.Match[str]) -> str:
        scheme, user = match[1], match[2].split(":")[0]
        return f"{scheme}://{user}@" if "ssh" in scheme.lower() and "@" not in user else f"{scheme}://"

    return _SECRET_PARAMETER.sub(r"\1***", _USERINFO.sub(keep, text))


def run_git(
    args: Sequence[str],
    cwd: Path | None = None,
    input: bytes | None = None,
    timeout: float = TIMEOUT_S,
    *,
    protocols: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """What `git ARGS` writes to its standard output.

    Args:
        args: subcommand first, without "git". Nothing in it goes through a shell.
        cwd: where it runs; a repository that this package made, or None for commands that need none (the root folder).
        input: its standard input; None is empty.
        timeout: seconds; git and what it started are killed after that.
        protocols: transports it may use ("file", "https", ...); none by default.
        settings: configuration on top of the fixed settings, for this run alone.
        environment: added to the fixed environment.

    Raises GitError where git is missing, fails or takes too long, and Stopped in the thread of a coroutine that was
    cancelled; git is killed then.
    """
    process = start_git(args, cwd, subprocess.PIPE, protocols=protocols, settings=settings, environment=environment)
    try:
        out, err = _communicate(process, input or b"", timeout)
    except subprocess.TimeoutExpired as error:
        kill_git(process)
        raise GitError(f"git {args[0]}: took longer than {timeout:g} s and was stopped") from error
    except BaseException:  # Ctrl-C too: its own session never sees the terminal's signal
        kill_git(process)
        raise
    if process.returncode:
        raise GitError(f"git {args[0]}: {last_words(err)}")
    return out


def _communicate(process: subprocess.Popen[bytes], input: bytes, timeout: float) -> tuple[bytes, bytes]:
    end = time.monotonic() + timeout
    # `communicate` can't be taken up again where it has input to send; git is quick with what it reads.
    while stoppable() and not input:
        try:
            return process.communicate(timeout=min(LOOK_S, max(0.0, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            if stopped():
                raise Stopped from None
            if time.monotonic() >= end:
                raise
    return process.communicate(input, timeout=timeout)


def start_git(
    args: Sequence[str],
    cwd: Path | None,
    stderr: int | IO[bytes],
    *,
    protocols: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """A process of git with pipes to its standard input and output; the arguments are `run_git`'s.

    Whoever starts it ends it, with `kill_git` if need be: it is in a session of its own. Raises GitError where git is
    missing.
    """
    values = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # A relative folder on PATH would be looked up inside the repository.
    values["PATH"] = ":".join(p for p in values.get("PATH", os.defpath).split(":") if p.startswith("/"))
    values |= _ENVIRONMENT | {"GIT_ALLOW_PROTOCOL": ":".join(protocols)} | dict(environment or {})
    options = [word for item in (_SETTINGS | dict(settings or {})).items() for word in ("-c", "=".join(item))]
    try:
        return subprocess.Popen(
            ["git", "--no-pager", *options, *args],
            cwd=cwd or "/",
            env=values,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise GitError(f"git {args[0]}: no folder {cwd}") from error
        raise GitError("git is not installed, or not on PATH: install it, then run this again") from error
    except (OSError, ValueError) as error:
        raise GitError(f"git {args[0]}: cannot start it: {redact(str(error))}") from error


def kill_git(process: subprocess.Popen[bytes]) -> None:
    """Kill what `start_git` started, and what that started; its pipes are closed."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.communicate()


def last_words(err: bytes) -> str:
    """Of what git said, the first line that names the fault, without control codes."""
    lines = [line.strip() for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("fatal:", "error:"))]
    chosen = (named or lines or ["it failed without a word"])[0]
    words = re.sub(r"^(fatal|error): ", "", "".join(c if c.isprintable() else " " for c in chosen))
    return redact(words)[:300]
