"""Placeholders for code that was left out ("# ... existing code ..."), filled from SEARCH or refused.

Written into a file, such a line deletes what it stands for.
"""

import re
from collections.abc import Iterable, Sequence

_LEADING = r"(?:#+|//+|--+|;+|%+|\{?/\*+|<!--|\{#|\(\*|\"{3}|'{3}|\*|!|REM |rem )\s*"
_CLOSING = r"\s*(?:\*/\}?|-->|#\}|\*\)|\"{3}|'{3})"
_LEADER, _CLOSER = re.compile(_LEADING), re.compile(_CLOSING + "$")
_DOTTED = r"(?:\.{3}|…|⋮)"
_DOTS = re.compile(_DOTTED)
_WORDS = re.compile(
    r"\b(?:exist\w*|rest|remain\w*|unchanged|same|omitted|previous|original|others?|more|continues?|before|above|below|"
    r"code|implementation|methods?|functions?|lines?|logic|body|snip|keep|etc)\b",
    re.IGNORECASE,
)
_THINGS = "code|file|function|class|method|module|body|implementation|lines|methods|functions|logic|everything"
_CODE = rf"(?:{_THINGS})"
_WHICH = r"(?:existing|remaining|previous|original|unchanged|other|all other)"
_GOES_ON = r" (?:(?:remains?|stays?|is|are|continues?)(?: (?:the )?(?:same|unchanged|here|as is|as before))?|unchanged)"
_SENTENCE = (
    rf"(?:the )?rest of (?:the |your |this )?{_CODE}(?:{_GOES_ON})?[.:]?",
    rf"(?:the )?(?:{_WHICH} )?{_CODE}{_GOES_ON}[.:]?",
    rf"(?:the )?(?:existing|remaining|unchanged) {_CODE}(?: (?:goes )?here)?[.:]?",
)
_SENTENCES = tuple(re.compile(sentence, re.IGNORECASE) for sentence in _SENTENCE)
"""Comments that say in words, without dots, that code goes on as it was."""
_KEPT = r"(?:existing|remaining|previous|original|unchanged|unmodified|other|same|rest)"
_SHORT = re.compile(
    rf"(?:(?:the |all )*{_KEPT}(?: (?:of )?(?:the |your |this )?(?:{_THINGS}|component|content|tests?|imports?))?"
    r"(?: (?:goes |remains? |stays? |is |are |continues? )?"
    r"(?:here|the same|unchanged|as (?:is|before|above)|omitted|below|above))?"
    r"|(?:no |without )changes?(?: (?:here|needed|below|above))?|as (?:before|above|is)|same as original"
    r"|(?:\w+ )?omitted(?: for brevity)?|(?:code )?continues?(?: here| as before)?"
    rf"|(?:keep|leave|retain)(?: the| all)* {_KEPT}(?: \w+){{0,3}}|snip(?:ped)?|your code here)",
    re.IGNORECASE,
)
"""Notes that say so in a word or two. They may be meant as notes, so that they count only where lines are gone."""

PLACEHOLDERS = (
    rf"\s*[ .…⋮]*{_DOTTED}[ .…⋮]*(?:{_CLOSING})?\s*",
    rf"\s*{_DOTTED}[^\n]*{_DOTTED}\s*",
    rf"\s*(?:pass\s+)?{_LEADING}[^\n]*{_DOTTED}[^\n]*",
    rf"\s*[\[<({{][^\n]*{_DOTTED}[^\n]*[\]>)}}]\s*",
    *(rf"\s*(?:pass\s+)?{_LEADING}\s*(?i:{sentence})(?:{_CLOSING})?\s*" for sentence in _SENTENCE),
)
"""Every line that `is_placeholder` takes for one, and a few more, whole. In the syntax that Python's and Rust's regular
expressions share, for grammars, and without `_WORDS`, which would cost them too much."""


class Elided(ValueError):
    """REPLACE leaves code out, and what it leaves out can't be told. The message is for whoever wrote it."""


def is_placeholder(line: str) -> bool:
    """Whether a line only stands for code that is not written out."""
    leader, body = _comment(line)
    if not body:
        return False
    dots = bool(_DOTS.search(body))
    if dots and not body.strip(" .…⋮"):
        return True
    if leader:
        return (dots and bool(_WORDS.search(body))) or any(sentence.fullmatch(body) for sentence in _SENTENCES)
    wrapped = (body[0] in "[<({" and body[-1] in "]>)}") or bool(re.fullmatch(rf"{_DOTTED}.+{_DOTTED}", body))
    return wrapped and dots and bool(_WORDS.search(body)) and not re.search(r"[=\w]\(", body)


def _comment(line: str) -> tuple[bool, str]:
    """Whether a line is a comment, and what it says. One behind `pass` counts as the line."""
    text = re.sub(r"^pass\s+(?=#)", "", line.strip())
    leader = _LEADER.match(text)
    return bool(leader), _CLOSER.sub("", text[leader.end() :] if leader else text).strip()


def _is_short(line: str) -> bool:
    """Whether a comment says in a word or two that code goes on as it was."""
    leader, body = _comment(line)
    return leader and bool(_SHORT.fullmatch(body.strip(" .…⋮()[]{}<>*-–—_!:")))


def filled(search: Sequence[str], replace: Sequence[str]) -> list[str]:
    """The lines of REPLACE with every placeholder that SEARCH lacks replaced by the lines of SEARCH that it stands for.

    Those are the lines between the ones that stand around the placeholder, where each of these stands in SEARCH exactly
    once. Raises Elided where they don't.
    """
    there = [line.strip() for line in search]
    wanted = [line.strip() for line in replace]
    gone = sum(line not in wanted for line in there if line)
    places = [k for k, line in enumerate(wanted) if line not in there and _leaves_out(line, gone)]
    if not places:
        return list(replace)
    result: list[str] = []
    done = -1
    for number, k in enumerate(places):
        previous = places[number - 1] if number else -1
        following = places[number + 1] if number + 1 < len(places) else len(replace)
        first = _anchor(reversed(range(previous + 1, k)), wanted, there, -1 if not number else None)
        last = _anchor(range(k + 1, following), wanted, there, len(search) if following == len(replace) else None)
        if first is None or last is None or not done <= first < last or not any(there[first + 1 : last]):
            raise Elided(f"REPLACE leaves code out (`{wanted[k][:60]}`): write every line that is to be there")
        result += [*replace[previous + 1 : k], *search[first + 1 : last]]
        done = last
    return [*result, *replace[places[-1] + 1 :]]


def _leaves_out(line: str, gone: int) -> bool:
    """Whether a line of REPLACE stands for code, where `gone` lines of SEARCH are not in it. A bare `...` is code in
    some languages, and `# unchanged` may be a note: they count only where lines are gone that they could stand for."""
    if re.fullmatch(_DOTTED, line):
        return gone > 1
    return is_placeholder(line) or (gone > 0 and _is_short(line))


def _anchor(order: Iterable[int], wanted: Sequence[str], there: Sequence[str], edge: int | None) -> int | None:
    """Where in SEARCH the first line with text of REPLACE stands, in this order; `edge` where there is no such line."""
    for k in order:
        if wanted[k]:
            return there.index(wanted[k]) if there.count(wanted[k]) == 1 else None
    return edge
