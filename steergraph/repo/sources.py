"""What a user may name as a repository: a folder, a bundle file, or a URL of a few transports. The rest is refused.

Knows words and file types; starts nothing and opens no repository. Credentials are taken out of a URL here and kept
apart, so that no message, log, command line or file ever sees them.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from steergraph.base.errors import InputError
from steergraph.repo.git import redact

_SCHEMES = ("https", "ssh", "git", "file")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\]")
_BUNDLE = (b"# v2 git bundle\n", b"# v3 git bundle\n")
_SCP = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!//)")


@dataclass(frozen=True)
class Folder:
    """A repository on this machine, with or without a work tree."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Bundle:
    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Remote:
    """A URL without credentials, and the credentials beside it."""

    url: str
    scheme: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.url


Source = Folder | Bundle | Remote


def parse_source(source: str | Path) -> Source:
    """Tell what `source` is. Raises InputError, without credentials, where it is none of the three."""
    text = str(source)
    if not text.strip():
        raise InputError("no repository was named: give a folder, a bundle file or a URL")
    if text.startswith("-"):
        raise InputError(f"{_shown(text)}: a repository cannot start with `-`")
    if any(not char.isprintable() for char in text):
        raise InputError(f"{_shown(text)}: a repository's name cannot hold line breaks or control characters")
    if re.match(r"[A-Za-z0-9+.-]*::", text):
        raise InputError(f"{_shown(text.split('::')[0])}::...: this transport runs commands and is never used")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return _url(text)
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return Folder(path.resolve())
        if path.is_file():
            return _bundle(path.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{_shown(text)}: cannot look at it: {error}") from error
    if _SCP.match(text) and not path.exists():
        raise InputError(f"{_shown(text)}: write it as a URL, ssh://user@host/path")
    raise InputError(f"{_shown(text)}: no such file or folder, and not a URL")


def _url(text: str) -> Source:
    scheme = text.split("://", 1)[0].lower()
    if scheme not in _SCHEMES:
        raise InputError(f"{_shown(scheme)}://...: repositories are fetched over {', '.join(_SCHEMES)} only")
    if re.search(r"\s", text):
        raise InputError(f"{scheme}://...: a URL cannot hold white space")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"{scheme}://...: not a URL that can be read (is a password not percent-encoded?)") from error
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InputError("file://...: a file URL has three slashes, file:///path")
        return parse_source(Path(unquote(parts.path) or "/"))
    bracketed = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(bracketed):
        raise InputError(f"{scheme}://...: the host is missing or has characters that a host cannot have")
    if parts.query or parts.fragment:
        raise InputError(f"{scheme}://{bracketed}/...: a repository's URL has no ? and no #")
    if not parts.path.strip("/") or parts.path.startswith("/-"):
        raise InputError(f"{scheme}://{bracketed}/...: the path to the repository is missing or starts with `-`")
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if any(not char.isprintable() for char in username + password):
        raise InputError(f"{scheme}://...: the user name or password has characters that cannot be used")
    place = bracketed if port is None else f"{bracketed}:{port}"
    if scheme == "ssh":
        if password or not re.fullmatch(r"|[A-Za-z0-9_][\w.+-]*", username):
            raise InputError("ssh://...: ssh takes a plain user name and no password; it uses your key")
        return Remote(f"ssh://{username + '@' if username else ''}{place}{parts.path}", scheme)
    if scheme == "git" and (username or password):
        raise InputError("git://...: this transport knows no users; leave the user name out or use https")
    return Remote(f"{scheme}://{place}{parts.path}", scheme, username, password)


def _bundle(path: Path) -> Bundle:
    with path.open("rb") as file:
        if file.read(len(_BUNDLE[0])) not in _BUNDLE:
            raise InputError(f"{path}: not a repository: a folder, a git bundle or a URL is needed")
    return Bundle(path)


def _shown(text: str) -> str:
    plain = redact("".join(char if char.isprintable() else "?" for char in text))
    return plain if len(plain) <= 200 else plain[:200] + "..."
