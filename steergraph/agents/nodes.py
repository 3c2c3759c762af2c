"""The graph's nodes that are not specialists: route, retrieve, edit, check, answer, finish.

Each is a function of the state that returns the keys it changes. Where they lie in the graph is `graph.py`'s concern.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from langgraph.runtime import Runtime
from pydantic import ValidationError

from steergraph.agents.answers import LETTERS, extract_answer
from steergraph.agents.budget import room_for_context
from steergraph.agents.check import TestCommand, TestRun, check_patch
from steergraph.agents.context import Context
from steergraph.agents.edits.blocks import parse_edits
from steergraph.agents.edits.patch import apply_edits, unified_diff
from steergraph.agents.policy import Decision
from steergraph.agents.services import Services, require_repo
from steergraph.agents.speak import Emit, ensure_spoken_with, prepare, sections_of, suspects
from steergraph.agents.specialists import RETRIEVE
from steergraph.agents.state import Input, State, Task, Tests
from steergraph.base.errors import InputError
from steergraph.engine.protocol import ScoreRequest
from steergraph.repo.repository import Repository
from steergraph.sandbox.run import Sandbox


class Node(Protocol):
    def __call__(self, state: State, *, runtime: Runtime[Context]) -> dict[str, Any]: ...


_FEEDBACK_CHARACTERS = 600


def route(services: Services, follows: Mapping[str, set[str]]) -> Node:
    """Validate the task, pin its commit, plan its steps, and make the vectors they will need ahead of the steps.

    `follows` says which steps may follow which; a router's plan that goes another way is refused.
    """

    def node(state: State, *, runtime: Runtime[Context]) -> dict[str, Any]:
        started = time.monotonic()
        context = Context.of(runtime.context)
        axes = context.axes(services.policy)
        task = _task(state)
        if task.kind == "issue":
            sha = services.repository(require_repo(task.repo)).resolve(task.base_commit)
            task = task.model_copy(update={"base_commit": sha})
        planned = services.router(task, services.roster, retrieval=axes.retrieval)
        for step, then in pairwise(("route", *planned.plan)):
            if then not in follows.get(step, ()):
                raise InputError(f"the plan {' > '.join(planned.plan)} is none of the roster's: add it to its plans")
        emit = runtime.stream_writer
        emit({"event": "route", "plan": list(planned.plan), "cluster": planned.cluster, "reason": planned.reason})
        specialists = [name for name in planned.plan if name != RETRIEVE]
        ensure_spoken_with(services, specialists, task, context, emit)  # now, so that a long extraction is shown first
        return {
            "task": task.model_dump(mode="json"),
            "plan": list(planned.plan),
            "cluster": planned.cluster,
            "cursor": 0,
            "attempt": 0,
            "feedback": "",
            "notes": [],
            "steps": [],
            "problems": [],
            "files_found": [],
            "retrieval": None,
            "candidate": None,
            "tests_before": None,
            "tests": {"before": None, "after": None},
            "patch": None,
            "answer": None,
            "status": None,
            "tokens": 0,
            "seconds": time.monotonic() - started,
        }

    return node


def retrieve(services: Services) -> Node:
    """Find the passages that matter, by the issue and the suspects named so far, packed to the patch prompt's room."""

    def node(state: State, *, runtime: Runtime[Context]) -> dict[str, Any]:
        started = time.monotonic()
        task = Task.model_validate(state["task"])
        engine = services.engine
        reader = _reader(services, state)
        room = room_for_context(reader, sections_of(task, state), engine.count_tokens, engine.info.window)
        empty = engine.count_tokens(reader.messages({"context": "."}))

        def count(text: str) -> int:
            return max(0, engine.count_tokens(reader.messages({"context": text})) - empty)

        named = suspects(state["notes"])
        found = services.retriever.retrieve(
            services.repository(require_repo(task.repo)), str(task.base_commit), task.problem, named, room, count
        )
        record = found.model_dump(mode="json")
        record["suspects"] = named
        runtime.stream_writer({"event": "retrieved", "budget": room, **record})
        return {
            "retrieval": record,
            "files_found": [ranked["path"] for ranked in record["ranked"]],
            "cursor": state["cursor"] + 1,
            "seconds": state["seconds"] + time.monotonic() - started,
        }

    return node


def edit(services: Services) -> Node:
    """Turn what the patch specialist said into a diff, computed from the files as they are at the base commit."""

    def node(state: State, *, runtime: Runtime[Context]) -> dict[str, Any]:
        task = Task.model_validate(state["task"])
        repository = services.repository(require_repo(task.repo))
        sha = str(task.base_commit)
        parsed = parse_edits(state["steps"][-1]["text"])
        problems = list(parsed.problems)
        candidate = None
        if not parsed.edits and not problems:
            problems = ["there is no edit block in the answer"]
        if parsed.edits and not problems:
            applied = apply_edits(parsed.edits, _reading(repository, sha))
            problems = list(applied.problems)
            if not problems:
                diff = unified_diff(applied.before, applied.after)
                candidate = {"diff": diff, "files": dict(applied.after)}
        attempted = [e.model_dump(mode="json") for e in parsed.edits]
        runtime.stream_writer(
            {
                "event": "edit",
                "attempt": state["attempt"],
                "edits": attempted,
                "problems": problems,
                "diff": candidate["diff"] if candidate else None,
            }
        )
        status = "edit_did_not_apply" if parsed.edits else "no_edit"
        return {"candidate": candidate, **({} if candidate else _failed(status, problems))}

    return node


def check(services: Services) -> Node:
    """Apply the diff to a clean copy, parse the files, and run the tests before and after where there are any."""

    def node(state: State, *, runtime: Runtime[Context]) -> dict[str, Any]:
        started = time.monotonic()
        context = Context.of(runtime.context)
        task = Task.model_validate(state["task"])
        repository = services.repository(require_repo(task.repo))
        candidate = state["candidate"] or {}
        tests = None
        sandbox = None
        if context.test:
            sandbox = Sandbox.detect(unsafe=context.unsafe_tests)
            seconds = context.test_seconds
            if context.max_seconds:
                runs = 1 if state.get("tests_before") else 2
                seconds = max(1.0, min(seconds, (context.max_seconds - state["seconds"]) / runs))
            tests = TestCommand(command=context.test, timeout_s=seconds)
            runtime.stream_writer({"event": "testing", "sandbox": sandbox.kind, "command": context.test})
        known = state.get("tests_before")
        with (
            tempfile.TemporaryDirectory(prefix="steergraph-") as folder,
            repository.working_copy(str(task.base_commit), Path(folder) / "copy") as copy,
        ):
            result = check_patch(
                copy,
                candidate["diff"],
                candidate["files"],
                tests=tests,
                sandbox=sandbox,
                before=TestRun.model_validate(known) if known else None,
            )
        update: dict[str, Any] = {
            "tests": Tests(before=result.tests_before, after=result.tests_after).model_dump(mode="json"),
            "tests_before": result.tests_before.model_dump(mode="json") if result.tests_before else None,
            "seconds": state["seconds"] + time.monotonic() - started,
        }
        if result.ok:
            update |= {"patch": candidate["diff"], "status": "patched", "problems": [], "feedback": ""}
        else:
            update |= _failed("checks_failed" if result.applies else "edit_did_not_apply", list(result.problems))
        runtime.stream_writer(
            {
                "event": "check",
                "attempt": state["attempt"],
                "ok": result.ok,
                "problems": list(result.problems),
                "tests": update["tests"],
            }
        )
        return update

    return node


def answer(services: Services) -> Node:
    """Read the answer out of the last step; with choices and none found, the likeliest letter."""

    def node(state: State, *, runtime: Runtime[Context]) -> dict[str, Any]:
        task = Task.model_validate(state["task"])
        last = state["steps"][-1]
        numeric = services.roster[last["specialist"]].domain == "math"
        found = extract_answer(last["text"], task.choices, numeric=numeric)
        how = "said"
        if found is None and task.choices:
            found, how = _likeliest(services, state, Context.of(runtime.context), task, runtime.stream_writer), "scored"
        runtime.stream_writer({"event": "answer", "answer": found, "how": how})
        return {"answer": found, "status": "answered" if found is not None else "no_answer"}

    return node


def finish(services: Services) -> Node:
    """Write down how it ended."""

    def node(state: State, *, runtime: Runtime[Context]) -> dict[str, Any]:
        status = state.get("status") or "no_edit"
        retrieval = state.get("retrieval")
        if status == "no_edit" and retrieval and not retrieval["passages"]:
            status = "no_context"
        runtime.stream_writer({"event": "outcome", "status": status, "patch": state.get("patch")})
        # The next task on this thread starts from nothing: what it does not name must not be this one's.
        return {"status": status, **dict.fromkeys(Input.__annotations__)}

    return node


def _reading(repository: Repository, sha: str) -> Callable[[str], str | None]:
    """Files at a commit, for `apply_edits`: None where there is none, ValueError where it can't be edited."""

    def read(path: str) -> str | None:
        known = {entry.path for entry in repository.files(sha)}
        file = repository.read(sha, path)
        if file.text is None and path in known:
            raise ValueError(file.reason or "it is not text")
        return file.text

    return read


def _task(state: State) -> Task:
    fields = {name: state.get(name) for name in Task.model_fields if state.get(name) is not None}
    fields.setdefault("kind", "issue" if fields.get("repo") else "reasoning")
    try:
        return Task.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "task"
        message = "it is missing" if first["type"] == "missing" else first["msg"]
        raise InputError(f"the task's {field}: {message}") from error


def _reader(services: Services, state: State) -> Any:
    """The specialist whose prompt retrieval packs for: of those still to come that read context, the tightest."""
    coming = [services.roster[n] for n in state["plan"][state["cursor"] :] if n != RETRIEVE]
    readers = [s for s in coming if "context" in s.reads]
    if not readers:
        raise InputError("the plan retrieves context, but no specialist after it reads `context`")
    return max(readers, key=lambda s: s.max_new_tokens)


def _failed(status: str, problems: list[str]) -> dict[str, Any]:
    words = "\n".join(problems)
    return {"status": status, "problems": problems, "feedback": words[:_FEEDBACK_CHARACTERS], "patch": None}


def _likeliest(services: Services, state: State, context: Context, task: Task, emit: Emit) -> str:
    name = state["plan"][state["cursor"] - 1]
    turn = prepare(services, name, state, context, emit)
    steering = Decision.model_validate(state["steps"][-1]["decision"]).steering
    letters = LETTERS[: len(task.choices)]
    scores = services.engine.score(
        [
            ScoreRequest(messages=turn.request.messages, continuation=f"#### {letter}", steering=steering)
            for letter in letters
        ]
    )
    totals = {letter: score.total for letter, score in zip(letters, scores, strict=True)}
    return max(totals, key=lambda letter: totals[letter])
