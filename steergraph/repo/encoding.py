"""In which encoding a file is written: what a Python source declares (PEP 263), UTF-8 for all others.

Text carries its own declaration, so that it can be written back as it was without anybody having kept it.
"""

import codecs
import re

_SOURCES = (".py", ".pyi")
_COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII)
_BLANK = re.compile(r"^[ \t\f]*(?:[#\r\n]|$)", re.ASCII)
_UTF8 = ("utf-8", "ascii")
"""A file that says ASCII and holds more is UTF-8, if anything."""


def encoding_of(path: str, head: str) -> str:
    """The encoding of the file at `path`, whose text begins with `head`: two lines of it are enough."""
    if not path.endswith(_SOURCES) or head.startswith("\ufeff"):
        return "utf-8"
    first, _, rest = head.partition("\n")
    said = _COOKIE.match(first) or (_COOKIE.match(rest.partition("\n")[0]) if _BLANK.match(first) else None)
    try:
        known = codecs.lookup(said[1]) if said else None
    except LookupError:
        known = None
    # Python's own codecs for other things than text (rot13, hex) have declared nothing that can be read.
    is_text = known is not None and getattr(known, "_is_text_encoding", True)
    return known.name if known is not None and is_text and known.name not in _UTF8 else "utf-8"


def to_text(path: str, data: bytes) -> str:
    """The text of a file. Raises ValueError, with the reason, where it is none, or would not be written back as it
    was."""
    name = encoding_of(path, _head(data))
    try:
        text = data.decode(name)
        same = to_bytes(path, text) == data
    except (UnicodeError, LookupError) as error:
        raise ValueError("not UTF-8" if name == "utf-8" else f"not {name}, which it declares") from error
    if not same:
        raise ValueError(f"its {name} can't be written back as it is")
    return text


def to_bytes(path: str, text: str) -> bytes:
    """`text` as it is written to a file at `path`. Raises UnicodeEncodeError, a ValueError, for what its encoding
    lacks."""
    return text.encode(encoding_of(path, text))


def why_unwritable(path: str, before: str | None, after: str | None) -> str | None:
    """Why the file at `path` can't be changed from one text into the other, encodings told; None where it can be."""
    if after is None:
        return None
    name = encoding_of(path, after)
    try:
        after.encode(name)
    except UnicodeEncodeError as error:
        return f"{error.object[error.start]!r} can't be written in {name}, which the file declares"
    if before is not None and not before.isascii() and encoding_of(path, before) != name:
        return f"an edit can't change the encoding that the file declares, from {encoding_of(path, before)} to {name}"
    return None


def _head(data: bytes) -> str:
    """The first two lines of a file, as far as a declaration in them can be read: it is ASCII."""
    text = b"\n".join(data[:4096].split(b"\n", 2)[:2])
    return "\ufeff" if text.startswith(codecs.BOM_UTF8) else text.decode("latin-1")
