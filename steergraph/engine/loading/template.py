"""What a chat template does, found out by rendering a few messages once: whether system texts arrive, what ends a turn.

Knows transformers' rendering, which is sandboxed, and added tokens. Knows nothing of prompts' meaning.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steergraph.base.errors import InputError, one_line

_USER, _ANSWER, _SYSTEM = "canary-of-the-user", "canary-of-the-answer", "canary-of-the-system"
_SECOND = "second-of-the-system"
_MARK = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")
_ELEMENT = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|br|caption|center|code|col|dd|del|div|dl|dt|em|h[1-6]|head|hr|html|i|img|ins|li|ol|p"
    r"|pre|q|s|small|span|strike|strong|sub|sup|table|tbody|td|tfoot|th|thead|title|tr|tt|u|ul)/?>"
)
"""Of HTML: some models have a token for each, and mean by it what any text means."""

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Template:
    """What the chat template of one tokenizer does with messages."""

    first_system: bool = True
    """A system text at the beginning is in what is rendered."""
    later_system: bool = True
    """One further down is, too."""
    end_ids: frozenset[int] = frozenset()
    """The token that follows the answer: it ends a turn, whatever the model's files say."""


def render(tokenizer: Any, messages: Messages, *, answer_next: bool = True, enable_thinking: bool = False) -> str:
    """The messages as the template has them, with the generation prompt if `answer_next`. Raises InputError."""
    try:
        rendered: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=answer_next, enable_thinking=enable_thinking
        )
    except Exception as error:  # a template is a program: it may fail in any way
        said = one_line(str(error), 160) or type(error).__name__
        raise InputError(f"the model's chat template refuses these messages: {said}") from error
    return rendered


def probe(tokenizer: Any) -> Template:
    """What the template of `tokenizer` does; nothing is known of one that refuses the simplest messages."""
    if not getattr(tokenizer, "chat_template", None):
        return Template()
    turns = [_message("user", _USER), _message("assistant", _ANSWER), _message("user", _USER)]
    if _rendered(tokenizer, turns) is None and _rendered(tokenizer, turns[:1]) is None:
        return Template()
    system, second = _message("system", _SYSTEM), _message("system", _SECOND)

    def arrive(*messages: dict[str, str]) -> bool:
        """Whether every system text is in what is rendered, thinking or not."""
        said = [message["content"] for message in messages if message["role"] == "system"]
        renderings = [_rendered(tokenizer, messages, enable_thinking=thinks) or "" for thinks in (False, True)]
        return all(text in rendered for text in said for rendered in renderings)

    return Template(
        first_system=arrive(system, turns[0]),
        # Beside a first one too: some templates keep the last system text they meet and forget the others.
        later_system=arrive(*turns[:2], system, turns[2]) and arrive(system, second, *turns),
        end_ids=_end_ids(tokenizer, _rendered(tokenizer, turns) or ""),
    )


def placed(messages: Messages, template: Template) -> list[dict[str, str]]:
    """`messages` with every system text that would not arrive in the user's turn: the one behind it, else the one
    before it, else one of its own."""
    found: list[dict[str, str]] = []
    waiting: list[str] = []
    for index, message in enumerate(messages):
        arrives = template.first_system if index == 0 else template.later_system
        if message["role"] == "system" and not arrives:
            waiting.append(message["content"])
        elif waiting and message["role"] == "user":
            found.append(_message("user", "\n\n".join([*waiting, message["content"]])))
            waiting = []
        else:
            found += [_message("user", "\n\n".join(waiting))] if waiting else []
            found.append(message)
            waiting = []
    if waiting and found and found[-1]["role"] == "user":
        waiting.insert(0, found.pop()["content"])
    return [*found, _message("user", "\n\n".join(waiting))] if waiting else found


def marks(tokenizer: Any, *, special_alone: bool = False) -> re.Pattern[str] | None:
    """A pattern for every added token that is a mark and no text, longest first; None where there is none.

    Marks are all special tokens, and others that look like one, as <think> or [TOOL]; tokenizers make them of any text.
    """
    names = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if len(token.content) > 1 and (token.special or (not special_alone and _is_mark(token.content)))
    }
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, longest_first))) if names else None


def _is_mark(name: str) -> bool:
    return bool(_MARK.fullmatch(name)) and not _ELEMENT.fullmatch(name)


def _end_ids(tokenizer: Any, rendered: str) -> frozenset[int]:
    tail = rendered.rpartition(_ANSWER)[2].lstrip()
    ends = [(token.content, index) for index, token in tokenizer.added_tokens_decoder.items()]
    ends = [(name, index) for name, index in ends if name.strip() and tail.startswith(name)]
    return frozenset({max(ends, key=lambda end: len(end[0]))[1]}) if ends else frozenset()


def _rendered(tokenizer: Any, messages: Messages, *, enable_thinking: bool = False) -> str | None:
    try:
        return render(tokenizer, messages, answer_next=False, enable_thinking=enable_thinking)
    except InputError:
        return None


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
