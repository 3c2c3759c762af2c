"""What one call of a chat model asks: its fields under what the call gives, as an engine's request.

Knows which arguments there are. Knows nothing of LangChain's messages.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError, first_problem
from steergraph.chat.constrained import shape_grammar, tool_grammar
from steergraph.chat.tools import Tools, visible
from steergraph.engine.constrain.grammar import Grammar, GrammarKind
from steergraph.engine.decode.text import CLOSE_THINKING, OPEN_THINKING
from steergraph.engine.protocol import Engine, Message, Request, Sampling, Span
from steergraph.engine.steering.records import Steering
from steergraph.engine.wire.requests import stop_sequences
from steergraph.engine.wire.tool_calls import NEVER

CALL_FIELDS = frozenset(
    {"steering", "dose", "suspend", "constrain", "temperature", "top_p", "top_k", "max_tokens", "seed", "timeout"}
    | {"enable_thinking"}
)


class Engines:
    """Engines that were opened for a chat model and its copies, by model and folder of vectors."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str | None], Any] = {}

    def get(self, model: str, vectors: str | None) -> Engine:
        """Raises InputError where it can't be opened."""
        with self._lock:
            if (model, vectors) not in self._open:
                from steergraph.engine.opening import open_engine
                from steergraph.vectors.library import Library

                library = Library.open(Path(vectors)) if vectors else None
                self._open[model, vectors] = open_engine(model, library)
            engine: Engine = self._open[model, vectors]
            return engine

    def known(self, model: str, vectors: str | None) -> Engine | None:
        """The engine if it is open already."""
        return self._open.get((model, vectors))

    def close(self) -> None:
        with self._lock:
            engines, self._open = list(self._open.values()), {}
        for engine in engines:
            engine.close()


@dataclass(frozen=True)
class CallOptions:
    """One call."""

    steering: Steering | None
    sampling: Sampling
    seed: int
    stop: tuple[str, ...]
    deadline_s: float | None
    enable_thinking: bool
    suspend: bool
    constrain: bool
    tools: Tools | None
    json_schema: Mapping[str, Any] | None
    """The schema of a JSON answer; empty where the prompt asks for it."""

    def instruction(self) -> str:
        """What the system message has to say beside the caller's words."""
        if self.tools is not None:
            return self.tools.instruction()
        if self.json_schema:
            schema = json.dumps(self.json_schema, ensure_ascii=False)
            return f"Answer with one JSON object that fits this schema, and nothing else:\n{schema}"
        return ""

    def grammar(self, known: frozenset[GrammarKind]) -> Grammar | None:
        """What the answer is held to; None where it is free, or an engine that knows `known` can't hold it."""
        grammar = None
        if self.constrain and self.tools is not None:
            grammar = tool_grammar(self.tools)
        elif self.constrain and self.json_schema is not None:
            grammar = shape_grammar(self.json_schema)
        return grammar if grammar is not None and grammar.kinds <= known else None

    def request(self, messages: tuple[Message, ...], known: frozenset[GrammarKind]) -> Request:
        spans: tuple[Span, ...] = ()
        if self.steering is not None and self.suspend:
            if self.tools is not None:
                spans = self.tools.spans()
            elif self.json_schema is not None:
                spans = (Span(open="{", close=NEVER),)
        return Request(
            messages=messages,
            steering=self.steering,
            suspend=spans,
            grammar=self.grammar(known),
            sampling=self.sampling,
            seed=self.seed,
            stop=self.stop,
            deadline_s=self.deadline_s,
            enable_thinking=self.enable_thinking,
        )


def call_options(
    fields: Any, arguments: Mapping[str, Any], tools: Tools | None, json_schema: Mapping[str, Any] | None, stop: Any
) -> CallOptions:
    """A chat model's fields with a call's on top. Raises InputError for arguments that there are not, or of no use."""
    if unknown := sorted(set(arguments) - CALL_FIELDS):
        raise InputError(f"{', '.join(unknown)}: no such argument; there are {', '.join(sorted(CALL_FIELDS))}")
    of = {name: arguments.get(name, getattr(fields, name)) for name in CALL_FIELDS}
    try:
        steering = None if of["steering"] is None else Steering.model_validate(of["steering"])
        return CallOptions(
            steering=_dosed(steering, float(of["dose"])),
            sampling=Sampling(
                temperature=of["temperature"],
                top_p=of["top_p"],
                top_k=of["top_k"],
                max_new_tokens=of["max_tokens"],
            ),
            seed=int(of["seed"]),
            stop=stop_sequences(stop if stop is not None else fields.stop),
            deadline_s=of["timeout"],
            enable_thinking=bool(of["enable_thinking"]),
            suspend=bool(of["suspend"]),
            constrain=bool(of["constrain"]),
            tools=tools,
            json_schema=json_schema,
        )
    except (TypeError, ValueError) as error:
        raise InputError(first_problem(error)) from error


def _dosed(steering: Steering | None, dose: float) -> Steering | None:
    if steering is None or dose == 0.0:
        return None
    if dose == 1.0:
        return steering
    scaled = [component.model_dump() | {"alpha": component.alpha * dose} for component in steering.components]
    return Steering.model_validate({"components": scaled})


class VisibleText:
    """The text of a stream that may be shown already: no thinking, and nothing that may become a call."""

    def __init__(self, options: CallOptions) -> None:
        self._options = options
        self._raw = ""
        self._shown = ""

    def push(self, piece: str) -> str:
        """What can be shown now and could not before."""
        self._raw += piece
        text = self._answer()
        return self.rest(text if self._options.tools is None else text[: visible(text)])

    def rest(self, text: str) -> str:
        """What is left of `text`, as of the whole answer at the end."""
        if len(text) <= len(self._shown) or not text.startswith(self._shown):
            return ""
        new = text[len(self._shown) :]
        self._shown = text
        return new

    def _answer(self) -> str:
        body = self._raw.lstrip()
        if self._options.enable_thinking or body.startswith(OPEN_THINKING):
            _, closed, answer = self._raw.partition(CLOSE_THINKING)
            return answer.lstrip("\n") if closed else ""
        return "" if OPEN_THINKING.startswith(body) else self._raw
