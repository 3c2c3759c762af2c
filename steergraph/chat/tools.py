"""Tool calls in words: how a small model is told of tools, and what it says taken apart again.

Knows the ways models write calls. Knows nothing of engines. What a model says is data: nothing in it is evaluated, and
a call is only ever a name and JSON-like arguments.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.utils.json import parse_partial_json

from steergraph.engine.protocol import Span
from steergraph.engine.wire.tool_calls import NEVER, TAGS, Format, write_call

Ending = Literal["closed", "open", "cut"]
"""Of a call: by its mark, by the answer's end, or by a limit."""
_WHY: dict[Ending, str] = {
    "closed": "not a call: it needs a name and arguments",
    "open": "it is not closed",
    "cut": "the answer was cut off in it",
}
_HOW: dict[Format, str] = {
    "hermes": "For each call write a JSON object with the name and the arguments between tags, and nothing after it:\n"
    '<tool_call>\n{"name": "NAME", "arguments": {"ARGUMENT": "VALUE"}}\n</tool_call>',
    "json": "To call a tool, answer with one JSON object and nothing else:\n"
    '{"name": "NAME", "parameters": {"ARGUMENT": "VALUE"}}',
    "python": "To call tools, answer with a list of calls and nothing else:\n"
    '<|tool_call_start|>[NAME(ARGUMENT="VALUE")]<|tool_call_end|>',
}


@dataclass(frozen=True)
class Tools:
    """Tools as a request has them."""

    schemas: tuple[Mapping[str, Any], ...]
    """OpenAI's function objects: name, description, parameters."""
    choice: str | None = None
    """None: as it likes; "any": at least one; a name: that one."""
    format: Format = "hermes"

    @property
    def names(self) -> frozenset[str]:
        return frozenset(schema["name"] for schema in self.schemas)

    @property
    def only(self) -> str | None:
        """The tool that has to be called, where there is no choice."""
        if self.choice == "any":
            return next(iter(self.names)) if len(self.names) == 1 else None
        return self.choice

    def instruction(self) -> str:
        """What the system message says of them."""
        listed = "\n".join(json.dumps(schema, ensure_ascii=False) for schema in self.schemas)
        must = {None: "You may call tools.", "any": "You must call a tool."}.get(
            self.choice, f"You must call the tool {self.choice}."
        )
        return f"{must} These are their signatures:\n<tools>\n{listed}\n</tools>\n{_HOW[self.format]}"

    def write(self, calls: Sequence[Mapping[str, Any]]) -> str:
        """Earlier calls, as the model would have written them."""
        return "\n".join(write_call(call["name"], call["args"], self.format) for call in calls)

    def spans(self) -> tuple[Span, ...]:
        """Where an answer is read by a program."""
        if self.format == "json" or self.only is not None:
            return (Span(open=TAGS["hermes"][0], close=TAGS["hermes"][1]), Span(open="{", close=NEVER))
        opened, closed = TAGS[self.format]
        return (Span(open=opened, close=closed),)


@dataclass(frozen=True)
class ParsedAnswer:
    """An answer taken apart."""

    content: str
    """What stands before the calls."""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    broken: tuple[tuple[str, str], ...] = ()
    """(text, what is wrong) of calls that can't be read."""


def parse_answer(text: str, tools: Tools, *, cut: bool = False) -> ParsedAnswer:
    """The calls in an answer, in whichever way they are written. Of one that was `cut` off, or that the model did not
    close, none is guessed at: only calls that stand there whole count.

    Marked calls count whatever tool they name; unmarked ones (bare JSON, a fenced block, Python's notation) only where
    they name one that there is, or where just one may be called and what was said are its arguments.
    """
    marked = _marked(text)
    if marked is not None:
        start, bodies = marked
        calls: list[tuple[str, dict[str, Any]]] = []
        broken = []
        for body, closed in bodies:
            ending: Ending = "cut" if cut else "closed" if closed else "open"
            read = _read(body, tools, strict=False, ending=ending)
            if read is None:
                broken.append((body.strip(), _WHY[ending]))
            calls += read or ()
        return ParsedAnswer(text[:start].rstrip(), tuple(calls), tuple(broken))
    for start, body, closed in _candidates(text):
        if read := _read(body, tools, strict=True, ending="cut" if cut else "closed" if closed else "open"):
            return ParsedAnswer(text[:start].rstrip(), tuple(read))
    return ParsedAnswer(text)


def visible(text: str) -> int:
    """How many characters at the beginning of a growing answer can't become part of a call."""
    if re.match(r"\s*(\{|\[|```|$)", text):
        return 0
    end = len(text)
    for opened in (*(opened for opened, _ in TAGS.values()), "```"):
        place = text.find(opened)
        if place >= 0:
            end = min(end, place)
        for size in range(min(len(opened) - 1, len(text)), 0, -1):
            if text.endswith(opened[:size]):
                end = min(end, len(text) - size)
                break
    # An unmarked call may begin at any brace or fence; what is before it is prose either way.
    for mark in ("{", "["):
        place = text.find(mark)
        if place >= 0:
            end = min(end, place)
    return len(text[:end].rstrip())


def _marked(text: str) -> tuple[int, list[tuple[str, bool]]] | None:
    """Where the first mark stands, and what stands between the marks, and whether it is closed."""
    bodies: list[tuple[int, str, bool]] = []
    for opened, closed in TAGS.values():
        for match in re.finditer(re.escape(opened) + r"(.*?)(" + re.escape(closed) + r"|\Z)", text, re.DOTALL):
            bodies.append((match.start(), match[1], bool(match[2])))
    bodies.sort()
    return (bodies[0][0], [(body, closed) for _, body, closed in bodies if body.strip()]) if bodies else None


def _candidates(text: str) -> list[tuple[int, str, bool]]:
    """Places where an unmarked call may stand: fenced blocks, then the first brace or bracket. Each with whether it is
    closed."""
    fences = re.finditer(r"```\w*\n?(.*?)(```|\Z)", text, re.DOTALL)
    places = [(match.start(), match[1], bool(match[2])) for match in fences]
    first = re.search(r"[{\[]", text)
    if first:
        places.append((first.start(), text[first.start() :], False))
    return places


def _read(body: str, tools: Tools, *, strict: bool, ending: Ending) -> list[tuple[str, dict[str, Any]]] | None:
    """The calls in `body`, or None where it holds none."""
    for value in _values(body.strip(), ending):
        items = value if isinstance(value, list) else [value]
        calls = [call for item in items if (call := _call(item)) is not None]
        complete = bool(calls) and len(calls) == len(items)
        if complete and all(name in tools.names for name, _ in calls):
            return calls
        if tools.only is not None and isinstance(value, dict) and (not complete or _fits(value, tools)):
            return [(tools.only, value)]
        if complete and not strict:
            return calls
    return _python(body.strip(), tools, strict=strict)


def _fits(value: Mapping[str, Any], tools: Tools) -> bool:
    """Whether an object is the arguments of the only tool: one of its own parameters is called `name`."""
    schema = next(schema for schema in tools.schemas if schema["name"] == tools.only)
    return bool(value) and set(value) <= set(schema.get("parameters", {}).get("properties", {}))


def _values(body: str, ending: Ending) -> list[Any]:
    """JSON values at the beginning of `body`: as it is, mended where nothing but brackets can be missing, or in
    Python's spelling."""
    start = re.search(r"[{\[]", body)
    if start is None:
        return []
    text, values = body[start.start() :], []
    try:
        return [json.JSONDecoder().raw_decode(text)[0]]
    except (ValueError, RecursionError):
        for read in (
            (parse_partial_json, ast.literal_eval) if _only_brackets_lack(text, ending) else (ast.literal_eval,)
        ):
            with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                values.append(read(text))
    return values


def _only_brackets_lack(text: str, ending: Ending) -> bool:
    """Whether every value in `text` was said to its end: its brackets are closed, or a mark says that it ends here, or
    the last bracket alone is missing. Nothing of what was cut."""
    left = _left_open(text)
    if ending == "cut" or left is None:
        return False
    return left == 0 or ending == "closed" or (left == 1 and text.rstrip().endswith(("}", "]")))


def _left_open(text: str) -> int | None:
    """How many brackets are open where the first value of `text`, which begins with one, ends or `text` does; None in
    the middle of a string."""
    depth, quoted, escaped = 0, False, False
    for character in text:
        if quoted:
            quoted, escaped = escaped or character != '"', character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
            if depth <= 0:
                return 0
    return None if quoted else depth


def _call(item: Any) -> tuple[str, dict[str, Any]] | None:
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("function"), dict):
        item = item["function"]
    name = item.get("name")
    arguments = next((item[key] for key in ("arguments", "parameters", "args", "input") if key in item), None)
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if arguments is None and set(item) <= {"name", "type", "id"}:
        arguments = {}
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return name, {str(key): value for key, value in arguments.items()}


def _python(body: str, tools: Tools, *, strict: bool) -> list[tuple[str, dict[str, Any]]] | None:
    """`[f(a=1), g()]` or `f(a=1)`, read without running anything."""
    try:
        tree = ast.parse(body, mode="eval").body
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    calls = []
    for node in tree.elts if isinstance(tree, ast.List) else [tree]:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
            return None
        try:
            arguments = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
        except (ValueError, TypeError):
            return None
        if strict and node.func.id not in tools.names:
            return None
        calls.append((node.func.id, arguments))
    return calls or None
