"""File texts before and after -> a diff as git writes it.

Pure: computed here, so that nothing is written to disk and no git configuration has a say. Where it is known which
lines were kept, hunks are the places of the edits; else difflib finds them. Lines end at "\\n"
and nowhere else: a form feed, a lone carriage return or U+2028 is part of its line, as it is for git.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

from steergraph.repo.encoding import encoding_of

_CONTEXT = 3
_MODE = "100644"
_JUNK_FROM_LINES = 2_000
"""From so many changed lines on difflib's shortcut is taken: a longer diff, but no minutes of search."""
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_Code = tuple[str, int, int, int, int]
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r"}
_ESCAPES |= {'"': '\\"', "\\": "\\\\"}


Kept = Sequence[int | None]
"""For every line of the new text, the 0-based line of the old one that it is; None for a new one."""


def unified_diff(
    before: Mapping[str, str | None], after: Mapping[str, str | None], kept: Mapping[str, Kept] | None = None
) -> str:
    """The diff that turns `before` into `after`, for the paths of `after`, in their order by name.

    None, or a path that `before` lacks, means no such file. What is equal gives nothing, so the diff may be empty.
    """
    known = kept or {}
    return "".join(_file_diff(path, before.get(path), after[path], known.get(path)) for path in sorted(after))


def diff_bytes(diff: str, files: Mapping[str, str | None]) -> bytes:
    """`diff` as git is to read it: each file's lines in the encoding that the file declares. `files` are the texts of
    its files, before or after, as far as they are known; of a file that is deleted all of its lines are in the diff."""
    heads = {f"+++ {quote_path(f'b/{path}')}": path for path in files}
    heads |= {f"--- {quote_path(f'a/{path}')}": path for path in files}
    parts: list[bytes] = []
    path, encoding, left = "", "utf-8", 0
    lines = _lines(diff)
    for at, line in enumerate(lines):
        hunk = _HUNK.match(line)
        if left <= 0 and hunk:
            left = sum(int(count) if count else 1 for count in hunk.groups())
            text = files.get(path)
            removed = "".join(one[1:] for one in lines[at + 1 : at + 3] if one.startswith("-"))
            encoding = encoding_of(path, text if text is not None else removed)
            parts.append(line.encode("utf-8", "surrogateescape"))
            continue
        if left <= 0 and not line.startswith("\\"):
            path = heads.get(line.rstrip("\n").rstrip("\t"), path)
        if left > 0 and not line.startswith("\\"):
            left -= 2 if line[0] == " " else 1
            parts.append(line.encode(encoding, "surrogateescape"))
        else:
            parts.append(line.encode("utf-8", "surrogateescape"))
    return b"".join(parts)


def quote_path(path: str) -> str:
    """`path` as git writes it in a diff with core.quotePath off: in quotes where it holds odd characters."""
    quoted = "".join(
        _ESCAPES.get(char, f"\\{ord(char):03o}" if ord(char) < 32 or char == "\x7f" else char) for char in path
    )
    return path if quoted == path else f'"{quoted}"'


def _file_diff(path: str, old: str | None, new: str | None, kept: Kept | None) -> str:
    if old == new:
        return ""
    source, target = quote_path(f"a/{path}"), quote_path(f"b/{path}")
    head = [f"diff --git {source} {target}\n"]
    if old is None:
        head.append(f"new file mode {_MODE}\n")
    if new is None:
        head.append(f"deleted file mode {_MODE}\n")
    hunks = "".join(_hunks(_lines(old or ""), _lines(new or ""), kept))
    if hunks:
        tab = "\t" if " " in path else ""
        head.append(f"--- {'/dev/null' if old is None else source + tab}\n")
        head.append(f"+++ {'/dev/null' if new is None else target + tab}\n")
    return "".join(head) + hunks


def _hunks(old: list[str], new: list[str], kept: Kept | None) -> Iterator[str]:
    codes = _found(old, new) if kept is None else _told(old, new, kept)
    for group in _grouped([code for code in codes if code[1] < code[2] or code[3] < code[4]]):
        i, j = group[0][1], group[0][3]
        i_end, j_end = group[-1][2], group[-1][4]
        yield f"@@ -{_range(i, i_end - i)} +{_range(j, j_end - j)} @@\n"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (_line(" ", line) for line in old[i1:i2])
            else:
                yield from (_line("-", line) for line in old[i1:i2])
                yield from (_line("+", line) for line in new[j1:j2])


def _told(old: list[str], new: list[str], kept: Kept) -> list[_Code]:
    """Opcodes of a file whose lines are known to be kept or new."""
    codes: list[_Code] = []
    i = j = 0
    for here, there in [*enumerate(kept), (len(new), len(old))]:
        at = there if there is not None and there >= i else None
        if here < len(new) and (at is None or old[at] != new[here]):
            continue
        at = len(old) if at is None else at
        if (i, j) != (at, here):
            codes.append(("replace", i, at, j, here))
        if here < len(new):
            codes.append(("equal", at, at + 1, here, here + 1))
        i, j = at + 1, here + 1
    joined: list[_Code] = []
    for code in codes:
        if joined and code[0] == joined[-1][0] == "equal":
            joined[-1] = ("equal", joined[-1][1], code[2], joined[-1][3], code[4])
        else:
            joined.append(code)
    return joined


def _found(old: list[str], new: list[str]) -> list[_Code]:
    # What both begin and end with is not searched: matched elsewhere, it would leave a change without the context
    # behind it, which git takes for the end of the file.
    shared = 0
    for mine, theirs in zip(old, new, strict=False):
        if mine != theirs:
            break
        shared += 1
    most = min(len(old), len(new)) - shared
    trailing = 0
    while trailing < most and old[-1 - trailing] == new[-1 - trailing]:
        trailing += 1
    middles = old[shared : len(old) - trailing], new[shared : len(new) - trailing]
    matcher = difflib.SequenceMatcher(None, *middles, autojunk=max(map(len, middles)) > _JUNK_FROM_LINES)
    return [
        ("equal", 0, shared, 0, shared),
        *((tag, i1 + shared, i2 + shared, j1 + shared, j2 + shared) for tag, i1, i2, j1, j2 in matcher.get_opcodes()),
        ("equal", len(old) - trailing, len(old), len(new) - trailing, len(new)),
    ]


def _grouped(codes: list[_Code]) -> Iterator[list[_Code]]:
    """Opcodes as hunks: parted where more lines are equal than two contexts show."""
    if codes and codes[0][0] == "equal":
        _, i1, i2, j1, j2 = codes[0]
        codes[0] = ("equal", max(i1, i2 - _CONTEXT), i2, max(j1, j2 - _CONTEXT), j2)
    if codes and codes[-1][0] == "equal":
        _, i1, i2, j1, j2 = codes[-1]
        codes[-1] = ("equal", i1, min(i2, i1 + _CONTEXT), j1, min(j2, j1 + _CONTEXT))
    group: list[_Code] = []
    for code in codes:
        tag, i1, i2, j1, j2 = code
        if tag == "equal" and i2 - i1 > 2 * _CONTEXT:
            yield [*group, (tag, i1, i1 + _CONTEXT, j1, j1 + _CONTEXT)]
            group = [(tag, i2 - _CONTEXT, i2, j2 - _CONTEXT, j2)]
        else:
            group.append(code)
    if group:
        yield group


def _lines(text: str) -> list[str]:
    parts = text.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _line(mark: str, line: str) -> str:
    return f"{mark}{line}" if line.endswith("\n") else f"{mark}{line}\n\\ No newline at end of file\n"


def _range(start: int, count: int) -> str:
    return str(start + 1) if count == 1 else f"{start + 1 if count else start},{count}"
