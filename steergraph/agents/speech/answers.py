"""Reading an answer to a reasoning task out of what was said.

The `#### N` line is GSM8K's own convention, "the answer is (X)" MMLU-Pro's; both as lm-evaluation-harness 0.4.13 reads
them. Knows nothing of models.
"""

import re
from collections.abc import Sequence

from steergraph.engine.constrain.grammar import Grammar

LETTERS = "ABCDEFGHIJ"
_MARKED = re.compile(r"^#{4}[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_SAID = re.compile(r"\b[Aa]nswer is:?\s*\(?([A-J])\)?(?![A-Za-z])")
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")


_MARK = "\n#### "
_RESERVE = 16
"""Tokens that are left for the mark and the answer where the steps run to the limit."""


def answer_grammar(choices: Sequence[str], *, numeric: bool) -> Grammar | None:
    """Steps in free words, then the marked line: a letter of the choices, or a number. None where the answer may be
    anything."""
    if choices:
        return Grammar(choice=tuple(LETTERS[: len(choices)]), after=_MARK, reserve=_RESERVE)
    return Grammar(regex=r"-?[0-9]+(\.[0-9]+)?", after=_MARK, reserve=_RESERVE) if numeric else None


def format_question(problem: str, choices: Sequence[str]) -> str:
    """The question as the model sees it, with lettered options where there are any."""
    if not choices:
        return problem.strip()
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"{problem.strip()}\nOptions:\n{options}"


def extract_answer(text: str, choices: Sequence[str] = (), *, numeric: bool = True) -> str | None:
    """The answer in `text`, or None. With choices it is a letter of theirs.

    In order: the last `#### X` line; "the answer is (X)" (with choices); a choice's full text on the marked line;
    the last number (without choices, and only where the answer is `numeric`).
    """
    marked = _MARKED.findall(text)
    if not choices:
        if marked:
            return str(marked[-1]).strip()
        numbers = _NUMBER.findall(text) if numeric else []
        return str(numbers[-1]).replace(",", "").replace("$", "") if numbers else None
    valid = LETTERS[: len(choices)]
    if marked:
        said = str(marked[-1]).strip()
        letter = re.fullmatch(r"\(?([A-Ja-j])\)?\.?", said)
        if letter and letter[1].upper() in valid:
            return letter[1].upper()
        for letter_of, choice in zip(valid, choices, strict=False):
            if said.casefold() == choice.strip().casefold():
                return letter_of
    found = [match.upper() for match in _SAID.findall(text) if match.upper() in valid]
    return found[0] if found else None
