"""Where an issue's text comes from: a file, standard input, a URL, or the argument itself.

What is fetched is data: it is bounded in size and time, and only ever becomes text in a prompt.
"""

import json
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

from steergraph.configs import InputError

MAX_BYTES = 1_000_000
TIMEOUT_S = 20.0
_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+)/(?:issues|pull)/(\d+)(?:[?#].*)?")


def read_issue(source: str) -> str:
    """The issue's text. `source` is a file, "-" for standard input, an http(s) URL, or the text itself.

    Raises InputError where it is empty, not text, too long or can't be read.
    """
    if source == "-":
        text = sys.stdin.read(MAX_BYTES + 1)
    elif re.match(r"https?://\S+$", source):
        text = _fetch(source)
    elif _is_file(source):
        text = _read(Path(source))
    elif _looks_like_path(source):
        raise InputError(f"no issue file at {source}: give a file, - for standard input, a URL, or the text itself")
    else:
        text = source
    if not text.strip():
        raise InputError("the issue is empty: say what goes wrong")
    if len(text) > MAX_BYTES:
        raise InputError(f"the issue is longer than {MAX_BYTES:,} characters")
    return text


def _is_file(source: str) -> bool:
    try:
        return "\n" not in source and Path(source).is_file()
    except (OSError, ValueError):
        return False


def _looks_like_path(source: str) -> bool:
    return not re.search(r"\s", source) and bool(re.search(r"[/\\]|\.(md|txt|rst)$", source))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: the issue is longer than {MAX_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the issue is not UTF-8 text") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror}") from error


def _fetch(url: str) -> str:
    github = _GITHUB.fullmatch(url)
    address = "https://api.github.com/repos/{}/{}/issues/{}".format(*github.groups()) if github else url
    shown = re.sub(r"//[^/@]*@", "//", url)
    request = urllib.request.Request(address, headers={"User-Agent": "steergraph", "Accept": "*/*"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            body = response.read(MAX_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InputError(f"{shown}: cannot fetch the issue: {getattr(error, 'reason', error)}") from error
    if len(body) > MAX_BYTES:
        raise InputError(f"{shown}: the issue is longer than {MAX_BYTES:,} bytes")
    try:
        text: str = body.decode("utf-8")
        if not github:
            return text
        issue: dict[str, str | None] = json.loads(text)
        return f"{issue['title']}\n\n{issue.get('body') or ''}"
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{shown}: what came back is not an issue") from error
