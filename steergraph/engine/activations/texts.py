"""A model's activations on texts: where in its prompt each text is read.

Knows prompts and read positions. Knows nothing of sides, methods or vectors. A text is a user message, behind it the
generation prompt; for `answer_mean` it is the assistant's answer to one question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steergraph.base.errors import InputError
from steergraph.configs import load_config
from steergraph.engine.activations import ReadPosition
from steergraph.engine.activations.sequences import (
    Activations,
    Report,
    Span,
    median_norms,
    sequence_activations,
)
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.protocol import Message


@dataclass(frozen=True)
class Frame:
    """What stands around a text."""

    system: str | None = None
    question: str | None = None
    """`answer_mean`: the user's words that the text answers."""
    marker: str | None = None
    """`marker`: read at the last token of the last place where this stands in the prompt."""


def text_activations(
    loaded: LoadedModel,
    texts: Sequence[str],
    positions: Sequence[ReadPosition] = ("last_prompt_token",),
    *,
    frame: Frame | None = None,
    where: str = "texts",
    batch_size: int = 8,
    report: Report = lambda count: None,
) -> Activations:
    """Read `texts` at `positions`, in one pass. `where` opens an error's line.

    Raises InputError where a text does not fit the window, a marker is not in it, or `positions` mixes an answer's with
    a prompt's.
    """
    around, chat = frame or Frame(), Chat(loaded.tokenizer)
    sequences: list[list[int]] = []
    spans: dict[ReadPosition, list[Span]] = {position: [] for position in positions}
    for index, text in enumerate(texts):
        ids, prompt = _encode(chat, text, around, positions, where)
        if len(ids) - prompt < 1 and "answer_mean" in positions:
            raise InputError(f"{where}: text {index} has no tokens to read")
        sequences.append(ids)
        for position in positions:
            spans[position].append(_span(loaded, ids, prompt, position, around, f"{where}: text {index}"))
    return sequence_activations(loaded, sequences, spans, where=where, batch_size=batch_size, report=report)


def plain_median_norms(loaded: LoadedModel) -> list[float]:
    """`median_norms` on the packaged neutral texts: for vectors that came without theirs. Within about 1 %
    of what vectors made here say of the same model."""
    chat = Chat(loaded.tokenizer)
    prompts = [chat.prompt((Message(role="user", content=text),)) for text in load_config("contrast/neutral")]
    found = sequence_activations(loaded, [prompt[: loaded.info.window] for prompt in prompts], {})
    norms: list[float] = median_norms(found).tolist()
    return norms


def _encode(
    chat: Chat, text: str, frame: Frame, positions: Sequence[ReadPosition], where: str
) -> tuple[list[int], int]:
    """(token ids, how many of them are the prompt)."""
    opening = (Message(role="system", content=frame.system),) if frame.system is not None else ()
    if "answer_mean" not in positions:
        ids = chat.prompt((*opening, Message(role="user", content=text)))
        return ids, len(ids)
    if len(positions) > 1 or not frame.question:
        raise InputError(f"{where}: answer_mean reads answers to a question: give the question, and no other position")
    prompt = chat.prompt((*opening, Message(role="user", content=frame.question)))
    return prompt + chat.text(text), len(prompt)


def _span(
    loaded: LoadedModel, ids: Sequence[int], prompt: int, position: ReadPosition, frame: Frame, where: str
) -> Span:
    if position == "last_prompt_token":
        return prompt - 1, prompt
    if position == "prompt_mean":
        return min(1, prompt - 1), prompt
    if position == "answer_mean":
        return prompt, len(ids)
    token = _marker(loaded.tokenizer, ids, frame.marker or "")
    if token is None:
        raise InputError(f"{where}: the marker {frame.marker!r} is not in the prompt")
    return token, token + 1


def _marker(tokenizer: Any, ids: Sequence[int], marker: str) -> int | None:
    """The token with which the last `marker` in the prompt is complete, or None."""

    def text_of(count: int) -> str:
        text: str = tokenizer.decode(list(ids[:count]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    start = text_of(len(ids)).rfind(marker) if marker else -1
    if start < 0:
        return None
    low, high = 1, len(ids)
    while low < high:  # the shortest prefix that holds it whole
        middle = (low + high) // 2
        if len(text_of(middle).rstrip("\ufffd")) >= start + len(marker):
            high = middle
        else:
            low = middle + 1
    return low - 1
