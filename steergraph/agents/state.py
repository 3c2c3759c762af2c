"""What flows through the graph: a task, the steps taken on it, and the outcome. Plain data, JSON-like.

Knows the shapes that other people's code sees. Vectors are here by name and hash only, never as tensors.
"""

from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from typing_extensions import TypedDict

from steergraph.agents.checks.testing import TestRun
from steergraph.agents.policy import Decision
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.steering.records import Receipt

Kind = Literal["issue", "reasoning"]
Status = Literal[
    "patched",
    "patched_untested",
    "answered",
    "no_context",
    "no_edit",
    "edit_did_not_apply",
    "checks_failed",
    "no_answer",
    "out_of_budget",
]


PATCHED: tuple[Status, ...] = ("patched", "patched_untested")
"""There is a patch that applies and parses. `patched`: a test that failed without it passes with it."""


class Task(Frozen):
    """What is asked. Gold patches, tests and hints have no field here, so they can't reach a prompt."""

    kind: Kind
    problem: str = Field(min_length=1)
    repo: str | None = None
    """Path, bundle or URL of the repository. An issue needs one."""
    base_commit: str | None = None
    """None: the repository's HEAD."""
    instance_id: str | None = None
    version: str | None = None
    project: str | None = None
    """`owner/name` as SWE-bench spells it; chooses the repository's cluster."""
    choices: tuple[str, ...] = Field(default=(), max_length=10)
    examples: tuple[str, ...] = ()

    @field_validator("problem")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the problem is empty")
        return value


class Cut(Frozen):
    """What a prompt's budget left out."""

    section: str
    kept_characters: int
    of_characters: int


class Tokens(Frozen):
    prompt: int
    completion: int


class Step(Frozen):
    """One specialist's turn."""

    specialist: str
    attempt: int = 0
    """0 is the first; repair rounds count up."""
    candidate: int = 0
    """Which of the answers that were drawn at once."""
    decision: Decision
    receipt: Receipt | None
    tokens: Tokens
    seconds: float
    text: str
    finish_reason: str
    left_off: str = ""
    """What stood behind the last whole sentence of a note that ran to its limit."""
    guard: str | None = None
    """Why this answer was thrown away and spoken again unsteered; None where it stands."""
    unsure: str | None = None
    """Why the guard could not ask the unsteered model."""
    echo: bool = False
    """It only says its prompt again, so it is no note for those who speak later."""
    cut: tuple[Cut, ...] = ()
    held_to: str = ""
    """The edit format, or "answer", whose grammar the answer was held to."""
    prompt: tuple[dict[str, str], ...] = ()
    """The messages as they were sent."""


class Tests(Frozen):
    """The user's test command without the patch and with it."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    before: TestRun | None = None
    after: TestRun | None = None


class Outcome(Frozen):
    """The end of a run, as `outcome.json` has it."""

    status: Status
    patch: str | None = None
    answer: str | None = None
    tests: Tests | None = None
    """None where no test was run, or none that can show the defect vouches for the patch."""
    untested: str | None = None
    """Of `patched_untested`: why no test vouches for the patch, in one line."""
    files_found: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    tokens: int = 0
    seconds: float = 0.0


class Input(TypedDict, total=False):
    """What a host gives: `problem`, and for an issue `repo`."""

    problem: str
    kind: Kind
    repo: str | None
    base_commit: str | None
    instance_id: str | None
    version: str | None
    project: str | None
    choices: list[str]
    examples: list[str]


class Output(TypedDict, total=False):
    """What a host gets back: the fields of `Outcome`."""

    status: Status
    patch: str | None
    answer: str | None
    tests: dict[str, Any] | None
    untested: str | None
    files_found: list[str]
    problems: list[str]
    steps: list[dict[str, Any]]
    tokens: int
    seconds: float


class State(Input, Output, total=False):
    """Everything a checkpoint holds. JSON-like values only."""

    task: dict[str, Any]
    plan: list[str]
    cursor: int
    """Index into `plan` of the step to take next."""
    cluster: str | None
    notes: list[dict[str, str]]
    retrieval: dict[str, Any] | None
    attempt: int
    feedback: str
    candidate: dict[str, Any] | None
    """The patch under check, or the one that holds: {"diff": str, "files": {path: text or None}}."""
    candidates: list[dict[str, Any]]
    """All patches of the last turn, the likeliest first, in the same shape."""
    tests_before: dict[str, Any] | None


STATE_KEYS = frozenset(State.__annotations__)


def requested_task(state: State) -> Task:
    """The task that the graph's input asks for. Raises InputError, one line, where it is none."""
    fields = {name: state.get(name) for name in Task.model_fields if state.get(name) is not None}
    fields.setdefault("kind", "issue" if fields.get("repo") else "reasoning")
    try:
        return Task.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "task"
        message = "it is missing" if first["type"] == "missing" else first["msg"]
        raise InputError(f"the task's {field}: {message}") from error
