"""File texts before and after -> a diff as git writes it.

Pure: computed with difflib, so that nothing is written to disk and no git configuration has a say. Lines end at "\\n"
and nowhere else: a form feed, a lone carriage return or U+2028 is part of its line, as it is for git.
"""

import difflib
from collections.abc import Iterator, Mapping

_CONTEXT = 3
_MODE = "100644"
_JUNK_FROM_LINES = 2_000
"""From so many changed lines on difflib's shortcut is taken: a longer diff, but no minutes of search."""
_Code = tuple[str, int, int, int, int]
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r"}
_ESCAPES |= {'"': '\\"', "\\": "\\\\"}


def unified_diff(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> str:
    """The diff that turns `before` into `after`, for the paths of `after`, in their order by name.

    None, or a path that `before` lacks, means no such file. What is equal gives nothing, so the diff may be empty.
    """
    return "".join(_file_diff(path, before.get(path), after[path]) for path in sorted(after))


def quote_path(path: str) -> str:
    """`path` as git writes it in a diff with core.quotePath off: in quotes where it holds odd characters."""
    quoted = "".join(
        _ESCAPES.get(char, f"\\{ord(char):03o}" if ord(char) < 32 or char == "\x7f" else char) for char in path
    )
    return path if quoted == path else f'"{quoted}"'


def _file_diff(path: str, old: str | None, new: str | None) -> str:
    if old == new:
        return ""
    source, target = quote_path(f"a/{path}"), quote_path(f"b/{path}")
    head = [f"diff --git {source} {target}\n"]
    if old is None:
        head.append(f"new file mode {_MODE}\n")
    if new is None:
        head.append(f"deleted file mode {_MODE}\n")
    hunks = "".join(_hunks(_lines(old or ""), _lines(new or "")))
    if hunks:
        tab = "\t" if " " in path else ""
        head.append(f"--- {'/dev/null' if old is None else source + tab}\n")
        head.append(f"+++ {'/dev/null' if new is None else target + tab}\n")
    return "".join(head) + hunks


def _hunks(old: list[str], new: list[str]) -> Iterator[str]:
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
    head, tail = min(shared, _CONTEXT), min(trailing, _CONTEXT)
    offset = shared - head
    a, b = old[offset : len(old) - trailing + tail], new[offset : len(new) - trailing + tail]
    middles = a[head : len(a) - tail], b[head : len(b) - tail]
    matcher = difflib.SequenceMatcher(None, *middles, autojunk=max(map(len, middles)) > _JUNK_FROM_LINES)
    codes = [
        ("equal", 0, head, 0, head),
        *((tag, i1 + head, i2 + head, j1 + head, j2 + head) for tag, i1, i2, j1, j2 in matcher.get_opcodes()),
        ("equal", len(a) - tail, len(a), len(b) - tail, len(b)),
    ]
    for group in _grouped([code for code in codes if code[1] < code[2] or code[3] < code[4]]):
        i, j = group[0][1], group[0][3]
        i_end, j_end = group[-1][2], group[-1][4]
        yield f"@@ -{_range(offset + i, i_end - i)} +{_range(offset + j, j_end - j)} @@\n"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (_line(" ", line) for line in a[i1:i2])
            else:
                yield from (_line("-", line) for line in a[i1:i2])
                yield from (_line("+", line) for line in b[j1:j2])


def _grouped(codes: list[_Code]) -> Iterator[list[_Code]]:
    """Opcodes as hunks: parted where more lines are equal than two contexts show."""
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
