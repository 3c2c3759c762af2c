"""What is looked at in an answer before it is passed on: is it sound, is it whole, does it say anything new.

Knows texts, and the unsteered model's opinion of one. Knows nothing of plans or of how answers are asked for.
"""

import re
from collections.abc import Sequence

from steergraph.agents.policy import Guard
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.protocol import Completion, Engine, Request, ScoreRequest

_RUN = 6
"""Words in a row that count as copied."""
_ECHO = 0.9
_LEAST_WORDS = 8
# A full stop inside `a.b()` or 3.5 ends nothing; one before closing quotes or brackets does. So does a line's end where
# a line of its own follows.
_SENTENCE = re.compile(r"""[.!?:;]["'`)\]*]*(?=\s)|[.!?]["'`)\]*]*$|\n(?=\n)""")


class Look(Frozen):
    """What came of it."""

    text: str
    """The answer as it is passed on."""
    left_off: str = ""
    """What stood behind its last whole sentence."""
    refused: str | None = None
    unsure: str | None = None
    """Why the unsteered model's opinion is not known."""
    echo: bool = False


def looked_at(engine: Engine, guard: Guard, request: Request, answer: Completion, *, note: bool, steered: bool) -> Look:
    """Look at an `answer` to `request`. Of a `note`, which a person or another specialist reads, an unfinished sentence
    is left off, and one that only says the prompt again is told; a `steered` one is compared with what the model would
    say unsteered, by one pass over it.

    What anybody ended early stays as it is."""
    if answer.finish_reason not in ("stop", "length"):
        return Look(text=answer.text)
    refused = unsure = None
    if steered:
        refused = guard.refusal(answer.text)
        if refused is None and answer.token_ids and guard.max_regret is not None:
            unsteered = ScoreRequest(
                messages=request.messages, token_ids=request.token_ids, continuation=answer.token_ids
            )
            regret, unsure = _regret(engine, unsteered)
            refused = guard.refusal(answer.text, regret)
    text = answer.text
    if note and answer.finish_reason == "length":
        text = whole_sentences(text)
    prompt = [message.content for message in request.messages or ()]
    return Look(
        text=text,
        left_off=answer.text[len(text) :],
        refused=refused,
        unsure=unsure,
        echo=note and refused is None and is_echo(text, prompt),
    )


def _regret(engine: Engine, request: ScoreRequest) -> tuple[float | None, str | None]:
    """Nats a token, and why they are not known."""
    try:
        (scores,) = engine.score([request])
    except InputError as error:
        return None, str(error)
    if (regret := scores.regret) is None:
        return None, f"{engine.info.name} does not say what else it would have said"
    return regret, None


def whole_sentences(text: str) -> str:
    """`text` up to the end of its last whole sentence; all of it where it has none."""
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    return text[: ends[-1]] if ends and text[: ends[-1]].strip() else text


def is_echo(text: str, prompt: Sequence[str]) -> bool:
    """Whether nine tenths of the words of `text` stand in runs of six or more that are in `prompt`. Of fewer than eight
    words nothing is said."""
    words = _words(text)
    if len(words) < _LEAST_WORDS:
        return False
    there = {run for part in prompt for run in _runs(_words(part))}
    copied = [False] * len(words)
    for start, run in enumerate(_runs(words)):
        if run in there:
            copied[start : start + _RUN] = [True] * _RUN
    return sum(copied) >= _ECHO * len(words)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + _RUN]) for at in range(len(words) - _RUN + 1)]
