"""Where an issue comes from: a file, standard input, a URL, the argument itself, or a SWE-bench row; and a question's
examples.

What is fetched is data: it is bounded in size and time, and only ever becomes text in a prompt.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from steergraph.base.errors import InputError
from steergraph.repo.git import redact

MAX_BYTES = 1_000_000
TIMEOUT_S = 20.0
_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+)/(?:issues|pull)/(\d+)(?:[?#].*)?")


Repo = Annotated[str | None, typer.Option(help="the repository: a folder, a bundle or a URL")]
Commit = Annotated[str | None, typer.Option(help="the commit to work on (default: HEAD, or the instance's)")]
Issue = Annotated[str | None, typer.Option(help="a file, - for standard input, a URL, or the text itself")]
Swebench = Annotated[str | None, typer.Option(metavar="FILE", help="a SWE-bench dataset file, with --instance")]
Instance = Annotated[str | None, typer.Option(metavar="ID", help="the instance's id")]


class AskedIssue(NamedTuple):
    """An issue as the words of a command name it."""

    repo: str
    """A folder, a bundle or a URL, as given."""
    text: str
    commit: str | None
    """None: the repository's HEAD."""
    row: dict[str, str] | None
    """The SWE-bench row it is from, if it is."""


def asked_issue(
    repo: str | None, commit: str | None, issue: str | None, swebench: str | None, instance: str | None
) -> AskedIssue:
    """What the options of those names say. Raises InputError where they don't name one issue, or it can't be read."""
    if (issue is not None) == bool(swebench):
        raise InputError("give either --issue, or --swebench FILE with --instance ID")
    if swebench:
        from steergraph.agents.instances import find_instance

        if not instance:
            raise InputError("--swebench needs --instance ID")
        row = find_instance(swebench, instance)
        source = repo or f"https://github.com/{row['repo']}"
        return AskedIssue(source, row["problem_statement"], commit or row["base_commit"], row)
    if not repo:
        raise InputError("--issue needs --repo, a folder, a bundle or a URL")
    return AskedIssue(repo, read_issue(issue or ""), commit, None)


def read_issue(source: str) -> str:
    """The issue's text. `source` is a file, "-" for standard input, an http(s) URL, or the text itself.

    Raises InputError where it is empty, not text, too long or can't be read.
    """
    if source == "-":
        text = read_stdin()
    elif re.match(r"https?://\S+$", source):
        text = _fetch(source)
    elif _is(source, Path.is_file):
        text = _read(Path(source))
    elif _is(source, Path.is_dir):
        raise InputError(f"{source}: a folder; --issue takes a file, - for standard input, a URL, or the text itself")
    elif _looks_like_path(source):
        raise InputError(f"no issue file at {source}: give a file, - for standard input, a URL, or the text itself")
    else:
        text = source
    if not text.strip():
        raise InputError("the issue is empty: say what goes wrong")
    if len(text) > MAX_BYTES:
        raise InputError(f"the issue is longer than {MAX_BYTES:,} characters")
    return text


def read_examples(path: str) -> list[str]:
    """Worked examples: a JSON list of strings, or text with a blank line between two. Raises InputError."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the examples: {error}") from error
    if path.endswith(".json"):
        try:
            loaded = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON: {error}") from error
        if not (isinstance(loaded, list) and all(isinstance(item, str) for item in loaded)):
            raise InputError(f"{path}: examples in JSON are a list of strings")
        return loaded
    return [block.strip() for block in text.split("\n\n") if block.strip()]


def read_stdin() -> str:
    """Standard input as text, whatever the terminal's encoding. Raises InputError where it is not UTF-8."""
    try:
        if buffer := getattr(sys.stdin, "buffer", None):
            return str(buffer.read(MAX_BYTES + 1).decode("utf-8-sig")).replace("\r\n", "\n")
        return sys.stdin.read(MAX_BYTES + 1)
    except UnicodeDecodeError as error:
        raise InputError("standard input is not UTF-8 text") from error


def _is(source: str, kind: Callable[[Path], bool]) -> bool:
    try:
        return "\n" not in source and bool(source) and kind(Path(source))
    except (OSError, ValueError):
        return False


def _looks_like_path(source: str) -> bool:
    return not re.search(r"\s", source) and bool(re.search(r"[/\\]|\.(md|txt|rst)$", source))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: the issue is longer than {MAX_BYTES:,} bytes")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the issue is not UTF-8 text") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror}") from error


def _fetch(url: str) -> str:
    import http.client
    import urllib.error
    import urllib.request

    github = _GITHUB.fullmatch(url)
    address = "https://api.github.com/repos/{}/{}/issues/{}".format(*github.groups()) if github else url
    shown = redact(url)
    if "@" in url.split("/")[2]:
        raise InputError(f"{shown}: an issue's URL cannot carry a user or a password")
    request = urllib.request.Request(address, headers={"User-Agent": "steergraph", "Accept": "*/*"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            body = response.read(MAX_BYTES + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        why = redact(" ".join(str(getattr(error, "reason", error)).split()))
        raise InputError(f"{shown}: cannot fetch the issue: {why}") from error
    if len(body) > MAX_BYTES:
        raise InputError(f"{shown}: the issue is longer than {MAX_BYTES:,} bytes")
    try:
        text: str = body.decode("utf-8-sig")
        if not github:
            return text
        issue: dict[str, str | None] = json.loads(text)
        return f"{issue['title']}\n\n{issue.get('body') or ''}"
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{shown}: what came back is not an issue") from error
