"""The samples of one instance: every step as outcome.json has it, and what the trace adds.

Knows the layout of a sample's folder. A trace is not written whole, so nothing in it is taken for granted; a damaged
outcome is a note.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from steergraph.agents.checks.testing import TestRun
from steergraph.agents.state import Step
from steergraph.base.errors import first_problem
from steergraph.base.files import read_lines, read_record
from steergraph.base.records import Frozen
from steergraph.evals.reports.read import Entry


class Sample(Frozen):
    """One sample of an entry, as outcome.json and its trace have it."""

    number: int
    status: str
    source: str
    steps: tuple[Step, ...]
    problem: str
    retrieved: dict[str, Any] | None = None
    """The last such event of the trace: `tokens`, `budget`, and `passages` with `path`, `lines`, `why` and `text`."""
    checked: tuple[dict[str, Any], ...] = ()
    """What the trace's edits and checks found wrong, in order: `event`, `attempt`, `problems`."""
    tests: TestRun | None = None
    """The last run of the test command, if one was given."""
    problems: tuple[str, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)

    def checked_after(self, step: int | None) -> list[dict[str, Any]]:
        """What was found wrong with the answer of the step at that index: the last of its attempt. None: with none."""
        last = {each.attempt: index for index, each in enumerate(self.steps)}
        return [each for each in self.checked if last.get(each["attempt"]) == step]


def read_samples(entry: Entry, notes: list[str] | None = None) -> list[Sample]:
    """The samples of an entry. A damaged one is left out, with a note."""
    found = []
    for number, folder in enumerate(entry.samples):
        path = folder / "outcome.json"
        outcome = read_record(path)
        try:
            if outcome is None:
                raise ValueError("it is missing, cut off, or not JSON")
            found.append(_sample(number, folder, outcome))
        except (ValueError, TypeError, AttributeError) as error:
            if notes is not None:
                notes.append(f"{path}: damaged, its steps are not shown: {first_problem(error)}")
    return found


def _sample(number: int, folder: Path, outcome: Mapping[str, Any]) -> Sample:
    tests = outcome.get("tests") or {}
    last = tests.get("after") or tests.get("before")
    source = outcome.get("source") or {}
    events = _trace(folder / "trace.jsonl")
    retrieved = [shown for event in events if (shown := _retrieved(event))]
    return Sample(
        number=number,
        status=str(outcome.get("status", "error")),
        source=_described(source),
        steps=tuple(Step.model_validate(step) for step in outcome.get("steps") or ()),
        problem=str((outcome.get("task") or {}).get("problem") or ""),
        retrieved=retrieved[-1] if retrieved else None,
        checked=tuple(
            _checked(event) for event in events if event["event"] in ("edit", "check") and event.get("problems")
        ),
        tests=TestRun.model_validate(last) if last else None,
        problems=tuple(str(each) for each in outcome.get("problems") or ()),
        provenance=dict(outcome.get("provenance") or {}),
    )


def _retrieved(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a page shows of it."""
    if event["event"] != "retrieved" or not isinstance(event.get("passages"), list):
        return None
    passages = [
        {
            "path": str(passage.get("path") or ""),
            "lines": f"{passage.get('first_line')} to {passage.get('last_line')}",
            "why": "; ".join(map(str, passage["why"])) if isinstance(passage.get("why"), list) else "",
            "text": str(passage.get("text") or ""),
        }
        for passage in event["passages"]
        if isinstance(passage, dict)
    ]
    return {"tokens": event.get("tokens"), "budget": event.get("budget"), "passages": passages}


def _checked(event: Mapping[str, Any]) -> dict[str, Any]:
    problems = event["problems"] if isinstance(event["problems"], list) else [event["problems"]]
    attempt = event.get("attempt")
    return {
        "event": event["event"],
        "attempt": attempt if type(attempt) is int else 0,
        "problems": "; ".join(map(str, problems)),
    }


def _described(source: Mapping[str, Any]) -> str:
    words = {key: value for key, value in source.items() if key != "kind" and value not in (None, 0, 0.0, 1.0, "")}
    return ", ".join([str(source.get("kind", "greedy")), *(f"{key} {value}" for key, value in words.items())])


def _trace(path: Path) -> list[dict[str, Any]]:
    """Its events. The last line may be cut off: a kill does that, and it is no damage."""
    lines = read_lines(path, errors="replace") if path.is_file() else ()
    return [event for _, event in lines if isinstance(event, dict) and isinstance(event.get("event"), str)]
