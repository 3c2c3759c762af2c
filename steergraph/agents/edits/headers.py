"""Which file an edit block is about: the path that stands near it, in whatever dress a model gives it.

Where the repository's files are known, whatever near the block names exactly one of them is taken; a path of none (a
file to be created) has to stand alone on its line.
"""

import re
from collections.abc import Collection, Sequence

FENCE = re.compile(r"(?:`{3,}|~{3,})([^`]*)")
_NEAR = 6
"""Lines with text above a block that are looked at."""
_WRAPPINGS = (
    re.compile(r"#+\s+(.+)"),
    re.compile(r"(?:\*\*|__)(.+?)(?:\*\*|__)(:?)"),
    re.compile(r"(?:file|path|filename)\s*:\s*(.+)", re.IGNORECASE),
)
_QUOTED = re.compile(r"(?:`+([^`]+)`+|\"([^\"`]+)\"|'([^'`]+)'):?")
_IN_PROSE = re.compile(r"`([^`\s]+)`")
_WORD = re.compile(r"[\w.+@-]+")
_TOKEN = re.compile(r"[^\s`\"'<>(){},;:=*|]+")
_WITHIN = re.compile(r"[\w-]")
"""What goes on with a name: a path does not end before it, nor begin behind it."""


def path_near(tail: str, above: Sequence[str], known: Collection[str], *, alone: bool) -> str | None:
    """The path that a block is about, or None where nothing near it says so.

    `tail` is what stands behind the block's first marker, `above` the lines since the last block. `alone`: no path
    carries over from an earlier block, so a bare word is a path too.
    """
    lines = [line for line in reversed(above) if line.strip()][:_NEAR]
    own = next((line for line in lines if not FENCE.fullmatch(line.strip())), None)
    new = find_path(own, alone=alone) if own is not None else None
    for line in (tail, *lines):
        named = named_in(line, known)
        if len(named) == 1:
            return named[0]
        if line is own and new and _standing(new, line):
            return new  # of no file that is there: it stands nearer than any that is
    return new or (tail.strip() if _is_path(tail.strip()) else None) or _in_fence(lines)


def paths_near(tail: str, above: Sequence[str], known: Collection[str]) -> list[str]:
    """Every path that something near a block names, of files that are there or not: for what can't be told from SEARCH.

    Where lines are nothing but a path, just theirs, and before all that of the block's own marker.
    """
    lines = [line for line in reversed(above) if line.strip()][:_NEAR]
    alone, named = list[str](), list[str]()
    for line in (tail, *lines):
        here = named_in(line, known) or ([path] if (path := find_path(line)) and _is_path(path) else [])
        here += [word for word in _IN_PROSE.findall(line) if "/" in word and not named_in(word, known)]
        if line is tail and len(here) == 1:
            return here
        named += here
        if len(here) == 1 and len(re.sub(r"[\s`*_#:\"']", "", line)) <= len(here[0]) + len("filename"):
            alone += here
    return list(dict.fromkeys(alone or named))


def named_in(line: str, known: Collection[str]) -> list[str]:
    """Those of the paths `known` that `line` names: whole, below another root, with backslashes, or by an ending that
    only one of them has. What lies inside a longer one does not count."""
    plain = re.sub(r"/(?:\.?/)+", "/", line.replace("\\", "/").replace("://", ":"))
    spans = [(at, at + len(path), path) for path in known if path in plain for at in _places(path, plain)]
    outer = {
        path
        for start, end, path in spans
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b, _ in spans)
    }
    if outer:
        return sorted(outer)
    by_ending = set()
    for token in (*_TOKEN.findall(plain), plain.strip(" \t`*_#:\"'")):
        ending = token.strip(".").removeprefix("./")
        matches = [path for path in known if path == ending or path.endswith(f"/{ending}")] if ending else []
        if len(matches) == 1:
            by_ending.add(matches[0])
    return sorted(by_ending)


def _places(path: str, text: str) -> list[int]:
    """Where `path` stands in `text` as a whole path, alone or below a root that is not the repository's."""
    found, at = [], text.find(path)
    while at >= 0:
        end = at + len(path)
        behind = text[end : end + 2]
        whole = not _WITHIN.match(behind) and behind[:1] != "/" and not re.match(r"\.\w", behind)
        root = re.split(r"[\s`\"'<>()=]", text[:at])[-1]
        if whole and (
            not root or re.fullmatch(r"(?:[ab]|\.|~/.*|(?:\.\./)+|https?:.*|(?:\w:)?/.*|.*[^\w./-])/?", root)
        ):
            found.append(at)
        at = text.find(path, at + 1)
    return found


def find_path(line: str, *, alone: bool = False) -> str | None:
    """The path that `line` names, or None. `alone`: no path carries over, so a bare word with a colon is a path too."""
    line = line.strip()
    named = False
    for _ in range(4):
        for wrapping in _WRAPPINGS:
            if match := wrapping.fullmatch(line):
                line, named = "".join(part or "" for part in match.groups()).strip(), True
    if quoted := _QUOTED.fullmatch(line):
        return next(part for part in quoted.groups() if part).strip() or None
    bare = line.rstrip(":").rstrip()
    if bare and not re.search(r"\s|`", bare):
        if _is_path(bare):
            return bare
        if _WORD.fullmatch(bare) and re.search(r"\w$", bare):
            return bare if named or alone or bare == line else None
        return None
    inside = [word for word in _IN_PROSE.findall(line) if "/" in word or re.search(r"\w\.[A-Za-z]\w*$", word)]
    return inside[0] if len(inside) == 1 else None


def bare_path(path: str) -> bool:
    """Whether a line that is nothing but `path` names it; else it needs backticks."""
    return find_path(path, alone=True) == path and not FENCE.fullmatch(path)


def _standing(path: str, line: str) -> bool:
    """Whether `line` is nothing but a path, with what may stand around it."""
    return _is_path(path) and len(re.sub(r"[\s`*_#:\"']", "", line)) <= len(path) + len("filename")


def _is_path(text: str) -> bool:
    return bool(text) and not re.search(r"\s", text) and ("/" in text or bool(re.search(r"\.\w", text)))


def _in_fence(lines: Sequence[str]) -> str | None:
    """The path in the info string of the fence right above, for a file that is to be created."""
    fence = FENCE.fullmatch(lines[0].strip()) if lines else None
    words = _TOKEN.findall(fence[1]) if fence else []
    paths = [word for word in words if "/" in word or re.fullmatch(r"[\w-]+(?:\.[A-Za-z]\w*)+", word)]
    return paths[0] if len(paths) == 1 else None
