"""What a function does before and after its repair, found by running both on drawn values.

Training runs only code that the corpus itself has drawn: `compare` is `exec`, with a limit on the lines of a call.
A model's repair is another matter. It is played back by this module as a program of its own, inside the sandbox:

    python -m training.corpus.behaviour < repairs.json

reads a list of {"lines", "record", "calls"} and prints, for each, which of its calls still do what they should.
"""

import ast
import copy
import json
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from training.corpus.arguments import Record, Values, show

LINES_A_CALL = 3000
SECONDS_A_CALL = 2.0
LARGEST = 100_000
"""Characters, elements or bits that a value of drawn code may have."""
_DRAWN = "<drawn>"
_IMPORTS = """
import json, math, re
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
"""


@dataclass(frozen=True)
class Call:
    """What was called, as a user writes it, and what came of it."""

    before: tuple[str, ...]
    """Calls on the same object that came first."""
    text: str
    result: str
    """The value as source, or `ZeroDivisionError: division by zero`."""
    raised: str
    """The exception's class, "" where there was none."""
    changed: str
    """The arguments afterwards, where the call changed them, else ""."""
    line: int = -1
    """The line of the drawn code where the exception came up, 0-based; -1 where there was none."""


@dataclass(frozen=True)
class Case:
    """One call of the right and of the wrong code."""

    expected: Call
    actual: Call

    @property
    def reveals(self) -> bool:
        return not same(self.expected, self.actual)


@dataclass(frozen=True)
class Script:
    """How a piece is called: its arguments' kinds; of a class, those of its constructor, and its calls."""

    args: tuple[str, ...] = ()
    calls: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Method (or attribute) and kinds, in a sensible order; () of a function."""
    optional: int = 0
    """How many of the last arguments may be left out."""
    stateful: bool = False
    """A function whose calls may know of each other: earlier ones are shown."""


class _TooLong(Exception):
    pass


def _limited(function: Callable[[], Any]) -> Any:
    left = LINES_A_CALL

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != _DRAWN:
            return None  # a library's function ends by itself, and may not be torn apart
        left -= 1
        if left < 0 or (left % 8 == 0 and any(map(_huge, frame.f_locals.values()))):
            raise _TooLong
        return trace

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        return function()
    finally:
        sys.settrace(old)


def _huge(value: Any) -> bool:
    """Whether a loop that doubles this would soon fill the memory."""
    size = value.bit_length() if isinstance(value, int) else len(value) if isinstance(value, (str, list)) else 0
    return size > LARGEST


def namespace(lines: Sequence[str], record_class: str) -> dict[str, Any] | None:
    """The names that `lines` define; None where they can't be run at all."""
    names: dict[str, Any] = {}

    def make(*values: Any, **fields: Any) -> Record:
        return Record(record_class, fields)

    try:
        exec(_IMPORTS, names)
        names.setdefault(record_class, make)
        exec(compile("\n".join(lines), _DRAWN, "exec"), names)
    except Exception:
        return None
    return names


def _call(function: Callable[..., Any], text: str, arguments: list[Any], before: tuple[str, ...]) -> Call:
    given = copy.deepcopy(arguments)
    shown = [show(value) for value in given]
    line = -1
    try:
        result, raised = show(_limited(lambda: _all_of(function(*given)))), ""
    except _TooLong:
        result, raised = "it never comes back", "TimeoutError"
    except Exception as error:
        result, raised, line = _told(error), type(error).__name__, _where(error)
    after = [show(value) for value in given]
    changed = ", ".join(new for old, new in zip(shown, after, strict=True) if old != new)
    return Call(before, text, result, raised, changed, line)


def _all_of(value: Any) -> Any:
    return list(value) if hasattr(value, "__next__") else value  # within the limit: a generator may have no end


def _told(error: Exception) -> str:
    said = str(error)
    if isinstance(error, KeyError):
        said = show(error.args[0]) if error.args else ""
    elif isinstance(error, RecursionError):
        said = "maximum recursion depth exceeded"  # Python adds what the innermost call was about
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def same(expected: Call, actual: Call) -> bool:
    """Whether two calls did the same: the value and the changed arguments, or an exception of the same class."""
    if expected.raised or actual.raised:
        return expected.raised == actual.raised
    return (expected.result, expected.changed) == (actual.result, actual.changed)


def replay(lines: Sequence[str], record: str, call: Call) -> Call | None:
    """The same call, read from its text, of other code; None where that can't be run."""
    names = namespace(lines, record)
    if names is None:
        return None
    try:
        for text in call.before:
            exec(text, names)
        tree = ast.parse(call.text, mode="eval").body
        if not isinstance(tree, ast.Call):
            return _call(lambda: eval(call.text, names), call.text, [], call.before)
        function = _value(tree.func, names)
        given = [_value(argument, names) for argument in tree.args]
    except Exception as error:
        return Call(call.before, call.text, str(error), type(error).__name__, "")
    return _call(function, call.text, given, call.before)


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(node), _DRAWN, "eval"), names)


def as_job(lines: Sequence[str], record: str, calls: Sequence[Call]) -> dict[str, Any]:
    """A repair to be played back elsewhere, as JSON holds it."""
    return {"lines": list(lines), "record": record, "calls": [asdict(call) for call in calls]}


def _where(error: BaseException) -> int:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _DRAWN]
    at = 0 if isinstance(error, RecursionError) else -1  # how deep that came depends on the caller
    return (lines[at] or 0) - 1 if lines else -1


def play(lines: Sequence[str], name: str, script: Script, values: Values, times: int) -> list[tuple[str, list[Any]]]:
    """Drawn calls: (name, arguments) for a function; for a class one session of calls, the constructor first."""
    if not script.calls:
        drawn = []
        for _ in range(times):
            given = [values.draw(kind) for kind in script.args]
            if script.optional and values.rng.random() < 0.5:
                given = given[: len(given) - values.rng.randint(1, script.optional)]
            drawn.append((name, given))
        return drawn
    session: list[tuple[str, list[Any]]] = [(name, [values.draw(kind) for kind in script.args])]
    if script.optional and values.rng.random() < 0.5:
        session[0] = (name, session[0][1][: len(script.args) - script.optional])
    for _ in range(times):
        method, kinds = values.rng.choice(script.calls)
        session.append((method, [values.draw(kind) for kind in kinds]))
    return session


def run(
    lines: Sequence[str], name: str, script: Script, calls: Sequence[tuple[str, list[Any]]], record: str
) -> list[Call] | None:
    """What each of `calls` gives; None where the code can't be run."""
    names = namespace(lines, record)
    if names is None or name not in names:
        return None
    if not script.calls:
        texts = [f"{name}({', '.join(map(show, given))})" for _, given in calls]
        return [
            _call(names[name], texts[at], given, tuple(texts[:at]) if script.stateful else ())
            for at, (_, given) in enumerate(calls)
        ]
    done: list[Call] = []
    variable = name[0].lower() + name[1:]
    _, first = calls[0]
    start = f"{variable} = {name}({', '.join(map(show, first))})"
    try:
        thing = _limited(lambda: names[name](*copy.deepcopy(first)))
    except Exception as error:
        return [Call((), start, _told(error), type(error).__name__, "", _where(error))]
    before: tuple[str, ...] = (start,)
    for method, given in calls[1:]:
        plain = not method.endswith("()")
        bare = method.removesuffix("()")
        text = f"{variable}.{bare}" if plain else f"{variable}.{bare}({', '.join(map(show, given))})"
        if bare == "len":
            text = f"len({variable})"
        elif bare == "in":
            text = f"{show(given[0])} in {variable}"

        def act(*arguments: Any, bare: str = bare, plain: bool = plain) -> Any:
            if bare == "len":
                return len(thing)
            if bare == "in":
                return arguments[0] in thing
            return getattr(thing, bare) if plain else getattr(thing, bare)(*arguments)

        call = _call(act, text, given, before)
        done.append(call)
        before = before if call.raised else (*before, text)
    return done


def compare(
    right: Sequence[str], wrong: Sequence[str], name: str, script: Script, values: Values, rounds: int = 6
) -> list[Case]:
    """Both versions on the same drawn calls, until two reveal the difference. [] where either can't be run."""
    record = values.slots["C"]
    several = script.calls or script.stateful
    cases: list[Case] = []
    for _ in range(rounds):
        calls = play(right, name, script, values, (6 if script.calls else 3) if several else 8)
        good, bad = run(right, name, script, calls, record), run(wrong, name, script, calls, record)
        if good is None or bad is None:
            return []
        cases += [Case(expected, actual) for expected, actual in zip(good, bad, strict=False)]
        if sum(case.reveals for case in cases) >= 3:
            break
    return cases


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TooLong


def main() -> int:
    jobs = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, _stop)  # a loop on one line has no line events
    verdicts = []
    for job in jobs:
        calls = [Call(**{**call, "before": tuple(call["before"])}) for call in job["calls"]]
        played: list[Call | None] = []
        for call in calls:
            signal.setitimer(signal.ITIMER_REAL, SECONDS_A_CALL)
            try:
                played.append(replay(job["lines"], job["record"], call))
            except _TooLong:
                played.append(None)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if played[-1] is None or played[-1].raised == "TimeoutError":
                played += [None] * (len(calls) - len(played))
                break
        verdicts.append([done is not None and same(call, done) for call, done in zip(calls, played, strict=True)])
    print(json.dumps(verdicts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
