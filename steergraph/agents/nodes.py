"""The graph's nodes: what each does with the state. Where they lie in the graph is `graph.py`'s concern."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.runtime import Runtime, get_runtime

from steergraph.agents.answers import LETTERS, extract_answer
from steergraph.agents.budget import room_for_context
from steergraph.agents.check import check_patch
from steergraph.agents.checks.baseline import asked_tests, tests_of_base, why_untested
from steergraph.agents.checks.testing import TestRun
from steergraph.agents.edits.blocks import parse_edits
from steergraph.agents.edits.patch import apply_edits, standing_in, unified_diff
from steergraph.agents.policy import Decision
from steergraph.agents.run_config import Context
from steergraph.agents.services import Services, require_repo
from steergraph.agents.speak import aspeak, speak
from steergraph.agents.specialists import RETRIEVE, Specialist
from steergraph.agents.state import Input, State, Task, Tests, requested_task
from steergraph.agents.turn import Emit, ensure_spoken_with, prepare, sections_of, spoken, suspects, turn_of
from steergraph.base.cancellation import in_thread
from steergraph.base.errors import InputError
from steergraph.engine.protocol import ScoreRequest
from steergraph.repo.repository import Repository

_FEEDBACK_CHARACTERS = 600


class Nodes:
    """The nodes of one graph. `follows` says which steps may follow which; a router's plan that goes another way is
    refused."""

    def __init__(self, services: Services, follows: Mapping[str, set[str]]) -> None:
        self._services = services
        self._follows = follows

    def body(self, name: str) -> RunnableLambda[State, dict[str, Any]]:
        """The node called `name` (a method's name, or a specialist's) as the graph runs it, sync and async.

        The async body of a method runs in a thread; cancelling it kills the git or the tests that it waits for.
        """
        if name in self._services.roster.names:
            return self._speaker(name)
        method: Callable[[State, Runtime[Context]], dict[str, Any]] = getattr(self, name)

        def node(state: State) -> dict[str, Any]:
            return method(state, get_runtime(Context))

        async def anode(state: State) -> dict[str, Any]:
            return await in_thread(partial(method, state, get_runtime(Context)))

        return RunnableLambda(node, anode, name=name)

    def _speaker(self, name: str) -> RunnableLambda[State, dict[str, Any]]:
        """A specialist's node."""
        services = self._services

        def node(state: State) -> dict[str, Any]:
            runtime = get_runtime(Context)
            turn = turn_of(services, name, state, Context.of(runtime.context), runtime.stream_writer)
            return spoken(state, turn, speak(services, turn, runtime.stream_writer) if turn else [])

        async def anode(state: State) -> dict[str, Any]:
            runtime = get_runtime(Context)
            emit = runtime.stream_writer
            turn = await asyncio.to_thread(turn_of, services, name, state, Context.of(runtime.context), emit)
            return spoken(state, turn, await aspeak(services, turn, emit) if turn else [])

        return RunnableLambda(node, anode, name=name)

    def route(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Validate the task, pin its commit, plan its steps, run the test on the code as it is, and make the vectors
        that the steps will need ahead of them.

        `follows` says which steps may follow which; a router's plan that goes another way is refused.
        """
        started = time.monotonic()
        context = Context.of(runtime.context)
        axes = context.axes(self._services.policy)
        task = requested_task(state)
        if task.kind == "issue":
            sha = self._services.repository(require_repo(task.repo)).resolve(task.base_commit)
            task = task.model_copy(update={"base_commit": sha})
        planned = self._services.router(task, self._services.roster, retrieval=axes.retrieval)
        for step, then in pairwise(("route", *planned.plan)):
            if then not in self._follows.get(step, ()):
                raise InputError(f"the plan {' > '.join(planned.plan)} is none of the roster's: add it to its plans")
        emit = runtime.stream_writer
        emit({"event": "route", "plan": list(planned.plan), "cluster": planned.cluster, "reason": planned.reason})
        tests_before = None
        if task.kind == "issue":
            repository = self._services.repository(require_repo(task.repo))
            tests_before = tests_of_base(repository, str(task.base_commit), context, emit)
        specialists = [name for name in planned.plan if name != RETRIEVE]
        # Now, so that a long extraction is shown first.
        ensure_spoken_with(self._services, specialists, task, context, emit)
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
            "tests_before": tests_before,
            "tests": {"before": tests_before, "after": None} if tests_before else None,
            "untested": None,
            "patch": None,
            "answer": None,
            "status": None,
            "tokens": 0,
            "seconds": time.monotonic() - started,
        }

    def retrieve(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Find the passages that matter, by the issue and the suspects so far, packed to the patch prompt's room."""
        started = time.monotonic()
        task = Task.model_validate(state["task"])
        engine = self._services.engine
        reader = self._reader(state)
        room = room_for_context(reader, sections_of(task, state), engine.count_tokens, engine.info.window)
        empty = engine.count_tokens(reader.messages({"context": "."}))

        def count(text: str) -> int:
            return max(0, engine.count_tokens(reader.messages({"context": text})) - empty)

        named = suspects(state["notes"])
        found = self._services.retriever.retrieve(
            self._services.repository(require_repo(task.repo)), str(task.base_commit), task.problem, named, room, count
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

    def edit(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Turn what the patch specialist said into a diff, computed from the files as they are at the base commit."""
        task = Task.model_validate(state["task"])
        repository = self._services.repository(require_repo(task.repo))
        sha = str(task.base_commit)
        read = _reading(repository, sha)
        paths = [entry.path for entry in repository.files(sha)]
        parsed = parse_edits(state["steps"][-1]["text"], paths, standing_in(read))
        problems = list(parsed.problems)
        candidate = None
        inexact: list[str] = []
        if not parsed.edits and not problems:
            problems = ["there is no edit block in the answer"]
        if parsed.edits and not problems:
            applied = apply_edits(parsed.edits, read)
            problems = list(applied.problems)
            inexact = [match.inexact for match in applied.matched if match.inexact]
            if not problems:
                diff = unified_diff(applied.before, applied.after, applied.kept)
                candidate = {"diff": diff, "files": dict(applied.after)}
        attempted = [e.model_dump(mode="json") for e in parsed.edits]
        runtime.stream_writer(
            {
                "event": "edit",
                "attempt": state["attempt"],
                "edits": attempted,
                "problems": problems,
                **({"inexact": inexact} if inexact else {}),
                "diff": candidate["diff"] if candidate else None,
            }
        )
        status = "edit_did_not_apply" if parsed.edits else "no_edit"
        return {"candidate": candidate, **({} if candidate else _failed(status, problems))}

    def check(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Apply the diff to a clean copy, parse the files, and run the tests before and after where there are any."""
        started = time.monotonic()
        context = Context.of(runtime.context)
        task = Task.model_validate(state["task"])
        repository = self._services.repository(require_repo(task.repo))
        candidate = state["candidate"] or {}
        known = TestRun.model_validate(state["tests_before"]) if state.get("tests_before") else None
        tests, sandbox = asked_tests(context, state["seconds"], known, runtime.stream_writer)
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
                before=known,
            )
        ran = Tests(before=result.tests_before, after=result.tests_after).model_dump(mode="json")
        untested = why_untested(result.tests_before) if result.ok else None
        update: dict[str, Any] = {
            "tests": ran if result.tests_before and not untested else None,
            "tests_before": ran["before"],
            "untested": untested,
            "seconds": state["seconds"] + time.monotonic() - started,
        }
        if result.ok:
            update |= {"patch": candidate["diff"], "status": "patched_untested" if untested else "patched"}
            update |= {"problems": [], "feedback": ""}
        else:
            update |= _failed("checks_failed" if result.applies else "edit_did_not_apply", list(result.problems))
        said = {"attempt": state["attempt"], "ok": result.ok, "problems": list(result.problems), "tests": ran}
        runtime.stream_writer({"event": "check", **said})
        return update

    def answer(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Read the answer out of the last step; with choices and none found, the likeliest letter."""
        task = Task.model_validate(state["task"])
        last = state["steps"][-1]
        numeric = self._services.roster[last["specialist"]].domain == "math"
        found = extract_answer(last["text"], task.choices, numeric=numeric)
        how = "said"
        if found is None and task.choices:
            found = self._likeliest(state, Context.of(runtime.context), task, runtime.stream_writer)
            how = "scored"
        runtime.stream_writer({"event": "answer", "answer": found, "how": how})
        return {"answer": found, "status": "answered" if found is not None else "no_answer"}

    def finish(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Write down how it ended."""
        status = state.get("status") or "no_edit"
        retrieval = state.get("retrieval")
        if status == "no_edit" and retrieval and not retrieval["passages"]:
            status = "no_context"
        runtime.stream_writer({"event": "outcome", "status": status, "patch": state.get("patch")})
        # The next task on this thread starts from nothing: what it does not name must not be this one's.
        return {"status": status, **dict.fromkeys(Input.__annotations__)}

    def _reader(self, state: State) -> Specialist:
        """The specialist whose prompt retrieval packs for: of those still to come that read context, the tightest."""
        coming = [self._services.roster[n] for n in state["plan"][state["cursor"] :] if n != RETRIEVE]
        readers = [s for s in coming if "context" in s.reads]
        if not readers:
            raise InputError("the plan retrieves context, but no specialist after it reads `context`")
        return max(readers, key=lambda s: s.max_new_tokens)

    def _likeliest(self, state: State, context: Context, task: Task, emit: Emit) -> str:
        name = state["plan"][state["cursor"] - 1]
        turn = prepare(self._services, name, state, context, emit)
        steering = Decision.model_validate(state["steps"][-1]["decision"]).steering
        letters = LETTERS[: len(task.choices)]
        scores = self._services.engine.score(
            [
                ScoreRequest(messages=turn.request.messages, continuation=f"#### {letter}", steering=steering)
                for letter in letters
            ]
        )
        totals = {letter: score.total for letter, score in zip(letters, scores, strict=True)}
        return max(totals, key=lambda letter: totals[letter])


def _reading(repository: Repository, sha: str) -> Callable[[str], str | None]:
    """Files at a commit, for `apply_edits`: None where there is none, ValueError where it can't be edited."""

    def read(path: str) -> str | None:
        known = {entry.path for entry in repository.files(sha)}
        file = repository.read(sha, path)
        if file.text is None and path in known:
            raise ValueError(file.reason or "it is not text")
        return file.text

    return read


def _failed(status: str, problems: list[str]) -> dict[str, Any]:
    words = "\n".join(problems)
    return {"status": status, "problems": problems, "feedback": words[:_FEEDBACK_CHARACTERS], "patch": None}
