"""Prompts that fit: sections are cut, in a fixed order, until a specialist's prompt leaves room for its answer.

Everything is counted in the model's own tokens, with the chat template. What was cut is returned, for the trace.
"""

from collections.abc import Callable, Mapping, Sequence

from steergraph.agents.specialists import Section, Specialist
from steergraph.agents.state import Cut
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.protocol import Message

Count = Callable[[Sequence[Message]], int]

# What is worth least goes first. The problem itself is cut last.
CUT_ORDER: tuple[Section, ...] = ("notes", "examples", "context", "feedback", "issue", "question")
ELLIPSIS = "\n[...]\n"
ISSUE_SHARE = 0.5
"""Of a window that also has to hold retrieved context, the share the issue may take."""


class FittedPrompt(Frozen):
    messages: tuple[Message, ...]
    tokens: int
    sections: dict[str, str]
    """The sections as they stand in the prompt."""
    cut: tuple[Cut, ...]
    max_new_tokens: int
    """What is left for the answer, at most the specialist's own bound."""


def fit(specialist: Specialist, sections: Mapping[str, str], count: Count, window: int) -> FittedPrompt:
    """The specialist's prompt within `window` tokens, answer included.

    `window` is the model's, in tokens. Sections lose whole lines: `context`, `notes` and `examples` from their end,
    the problem and the feedback from their middle. Raises InputError where not even the bare system prompt fits.
    """
    room = window - specialist.max_new_tokens
    kept: dict[str, str] = {name: sections.get(name, "").strip("\n") for name in specialist.reads}
    original = dict(kept)

    def tokens(trial: Mapping[str, str]) -> int:
        return count(specialist.messages(trial))

    if kept.get("context") and kept.get("issue") and tokens(kept) > room:
        bare = tokens({})
        share = bare + int((room - bare) * ISSUE_SHARE)
        kept["issue"] = shorten(kept["issue"], lambda text: tokens({"issue": text}) <= share)
    for name in CUT_ORDER:
        if tokens(kept) <= room:
            break
        if kept.get(name):

            def fits(text: str, name: str = name) -> bool:
                return tokens({**kept, name: text}) <= room

            kept[name] = _longest(kept[name], name, fits)
    total = tokens(kept)
    if total > room:
        raise InputError(
            f"the prompt of {specialist.name} alone takes {total} tokens, and with {specialist.max_new_tokens} for its "
            f"answer that is past the model's window of {window}; lower max_new_tokens or use a model with a longer one"
        )
    cut = tuple(
        Cut(section=name, kept_characters=len(kept[name]), of_characters=len(text))
        for name, text in original.items()
        if kept[name] != text
    )
    return FittedPrompt(
        messages=specialist.messages(kept),
        tokens=total,
        sections=kept,
        cut=cut,
        max_new_tokens=min(specialist.max_new_tokens, window - total),
    )


def room_for_context(specialist: Specialist, sections: Mapping[str, str], count: Count, window: int) -> int:
    """Tokens that retrieved passages may take in `specialist`'s prompt beside the other sections, answer included.

    The issue is assumed to be cut to half the room where it is longer.
    """
    room = window - specialist.max_new_tokens
    bare = count(specialist.messages({"context": "."}))
    full = count(specialist.messages({**sections, "context": "."}))
    others = min(full - bare, int((room - bare) * ISSUE_SHARE))
    return max(0, room - bare - others)


def shorten(text: str, fits: Callable[[str], bool]) -> str:
    """The longest version of `text`, cut in its middle, for which `fits` is true; "" where none is."""
    return _longest(text, "issue", fits)


def _longest(text: str, section: Section, fits: Callable[[str], bool]) -> str:
    """Binary search over how many lines (then, of one long line, how many characters) are kept."""
    if fits(text):
        return text
    for units, glue in ((text.split("\n"), "\n"), (list(text), "")):
        best = ""
        low, high = 1, len(units) - 1
        while low <= high:
            middle = (low + high) // 2
            trial = _keep(units, middle, glue, section)
            if fits(trial):
                best, low = trial, middle + 1
            else:
                high = middle - 1
        if best.strip():
            return best
    return ""


def _keep(units: Sequence[str], n: int, glue: str, section: Section) -> str:
    if section in ("context", "notes", "examples"):
        return glue.join(units[:n])
    tail = n // 3
    return glue.join(units[: n - tail]) + ELLIPSIS + glue.join(units[len(units) - tail :])
