"""A line of the file that is not quite the line of SEARCH: what both sides changed is merged, or refused.

Base is SEARCH, one side the file, the other REPLACE, as in a three-way merge (diff3). Works on single lines.
"""

import difflib
import re
from collections.abc import Sequence

_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
_MEANT = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\w+|[^\w\s]")
"""What of a line is not layout: inside quotes white space means something."""
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_LEAST_PART = 3
"""Characters of a SEARCH that is only a part of a line."""
Change = tuple[int, int, tuple[str, ...]]
"""Tokens [start, end) of the base become others."""


class Conflict(ValueError):
    """File and REPLACE both changed one place of SEARCH. The message is for whoever wrote the edit."""


def merged_lines(search: Sequence[str], region: Sequence[str], replace: Sequence[str], start: int) -> list[str]:
    """The lines `region` of the file, from line `start` (0-based) on, with the change that REPLACE makes to SEARCH's.

    Line for line, or one line that becomes several. Raises Conflict where it can't be told what is meant.
    """
    if len(search) == 1 and replace:
        groups = [list(replace)]
    elif len(search) == len(replace):
        groups = [[text] for text in replace]
    else:
        raise _conflict(region[0], start)
    texts = []
    for offset, (mine, line, (first, *more)) in enumerate(zip(search, region, groups, strict=True)):
        if not same(mine, line) and not _is_nearest(mine, first, [group[0] for group in groups]):
            raise _conflict(line, start + offset)  # another line of REPLACE is this one, so which is which is unknown
        found = merged(mine.strip(), line.strip(), "\n".join([first.strip(), *more]))
        if found is None:
            raise _conflict(line, start + offset)
        texts += (line[: len(line) - len(line.lstrip())] + found).split("\n")
    return texts


def _conflict(line: str, start: int) -> Conflict:
    return Conflict(
        f"SEARCH is not in the file: line {start + 1} is `{line.strip()[:100]}`, and REPLACE changes what differs: "
        "copy the lines as they are"
    )


def same(mine: str, theirs: str) -> bool:
    """Whether two lines differ in the white space between their words, signs and strings at most."""
    return _MEANT.findall(mine) == _MEANT.findall(theirs)


def need_commas(new: Sequence[str], around: Sequence[tuple[str, str]]) -> None:
    """Raise Conflict for a `new` line that ends without a comma beside lines (of SEARCH, of the file) to which the file
    gives one that SEARCH left out: two strings side by side are one."""
    if any(line.rstrip().endswith(",") and not mine.rstrip().endswith(",") for mine, line in around):
        for text in filter(None, map(str.strip, new)):
            if text[-1] not in ",([{:":
                raise Conflict(f"the file's lines end with a comma and `{text[:60]}` does not: copy them as they are")


def _is_nearest(mine: str, its: str, others: Sequence[str]) -> bool:
    """Whether no line of `others` is more like `mine` than `its` is."""
    base = _MEANT.findall(mine)

    def likeness(text: str) -> float:
        return difflib.SequenceMatcher(None, base, _MEANT.findall(text), autojunk=False).ratio()

    return likeness(its) >= max(map(likeness, others))


def merged(search: str, line: str, replace: str) -> str | None:
    """`line` with the change from `search` to `replace` made to it; None where both changed one place.

    All three without indentation and white space at their ends.
    """
    if is_part(search, line):
        return replaced_part(search, line, replace)
    base = _TOKEN.findall(search)
    ours, theirs = _changes(base, _TOKEN.findall(line)), _changes(base, _TOKEN.findall(replace))
    changes = [*ours, *(change for change in theirs if change not in ours)]
    if any(_clash(one, other) for one in ours for other in theirs if one != other):
        return None
    result: list[str] = []
    at = 0
    for start, end, tokens in sorted(changes):
        result += [*base[at:start], *tokens]
        at = end
    return "".join([*result, *base[at:]])


def is_part(search: str, line: str) -> bool:
    """Whether `search` is a proper part of `line`, once, and cuts no word."""
    at = line.find(search)
    if len(search) < _LEAST_PART or len(search) >= len(line) or at < 0 or line.find(search, at + 1) >= 0:
        return False
    end = at + len(search)
    cuts_first = at > 0 and bool(re.fullmatch(r"\w\w", line[at - 1 : at + 1]))
    cuts_last = end < len(line) and bool(re.fullmatch(r"\w\w", line[end - 1 : end + 1]))
    return not cuts_first and not cuts_last


def replaced_part(search: str, line: str, replace: str) -> str | None:
    """`line` with its part `search` replaced; None where that can't be told from a REPLACE that means the whole line.

    A REPLACE that brings the rest of the line along means the whole line: the rest is not said twice. It may have more
    lines than one, ended by newlines between them.
    """
    before, _, behind = line.partition(search)
    if replace == line:
        return line
    start = "" if before.strip() and _begins(replace, before.lstrip()) else before
    rest = behind.strip()
    if not rest:
        return start + replace + behind
    first, *more = replace.split("\n")
    if more:  # the rest of the line has no place among several, unless it stands there
        return start + replace if _ends(first, rest) or _ends(replace.rstrip(), rest) else None
    grown = first.removeprefix(search) if first.startswith(search) else ""
    whole = [start + replace + behind]
    if _begins(grown.strip(), rest) or _ends(first.rstrip(), rest):
        whole.append(start + replace)
    if len(whole) == 1:
        return whole[0]
    fitting = [text for text in whole if _open(text) == _open(line)]
    # Both fit (a colon, a comma, a word): what stands at the end already is not said again.
    return fitting[-1] if fitting else None


def _begins(text: str, part: str) -> bool:
    """Whether `text` begins with `part` and goes on with no word that `part` is in the middle of."""
    return text.startswith(part) and not re.fullmatch(r"\w\w", part[-1:] + text[len(part) : len(part) + 1])


def _ends(text: str, part: str) -> bool:
    """Whether `text` ends with `part` and has no word before it that `part` is the end of."""
    at = len(text) - len(part)
    return text.endswith(part) and not (at > 0 and re.fullmatch(r"\w\w", text[at - 1] + part[:1]))


def _changes(base: Sequence[str], other: Sequence[str]) -> list[Change]:
    codes = difflib.SequenceMatcher(None, base, other, autojunk=False).get_opcodes()
    return [(i1, i2, tuple(other[j1:j2])) for tag, i1, i2, j1, j2 in codes if tag != "equal"]


def _clash(one: Change, other: Change) -> bool:
    """Whether two changes share a token, or put something in at one place."""
    (a1, a2, _), (b1, b2, _) = one, other
    return max(a1, b1) < min(a2, b2) or a1 == b1 or (a1 == a2 and b1 <= a1 <= b2) or (b1 == b2 and a1 <= b1 <= a2)


def _open(text: str) -> int:
    """How many brackets are open at the end of the line."""
    return sum(_BRACKETS.get(char, 0) for char in text)
