"""The graph's nodes: what each does with the state. Where they lie in the graph is `graph.py`'s concern."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.runtime import Runtime, get_runtime

from steergraph.agents.checks.baseline import asked_tests, tests_of_base, why_untested
from steergraph.agents.checks.several import Checked, better, checked
from steergraph.agents.checks.testing import TestRun
from steergraph.agents.edits.drafts import drafted, in_order
from steergraph.agents.edits.formats.shown import Shown, shown_at
from steergraph.agents.policy import Decision
from steergraph.agents.run_config import Context
from steergraph.agents.services import Services, require_repo
from steergraph.agents.specialists import RETRIEVE, Specialist
from steergraph.agents.speech.answers import LETTERS, extract_answer
from steergraph.agents.speech.budget import room_for_context
from steergraph.agents.speech.candidates import adraw, draw
from steergraph.agents.speech.speak import aspeak, speak
from steergraph.agents.speech.turn import (
    Emit,
    Turn,
    ensure_spoken_with,
    prepare,
    sections_of,
    spoken,
    suspects,
    turn_of,
)
from steergraph.agents.state import Input, State, Step, Task, requested_task
from steergraph.base.cancellation import in_thread
from steergraph.base.errors import InputError
from steergraph.configs.prompts import in_fences
from steergraph.engine.protocol import ScoreRequest

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
        if name in self._services.wiring.names:
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
            context, emit = Context.of(runtime.context), runtime.stream_writer
            turn = turn_of(services, name, state, context, emit)
            return spoken(state, turn, _say(services, turn, context, emit) if turn else [])

        async def anode(state: State) -> dict[str, Any]:
            runtime = get_runtime(Context)
            context, emit = Context.of(runtime.context), runtime.stream_writer
            turn = await asyncio.to_thread(turn_of, services, name, state, context, emit)
            return spoken(state, turn, await _asay(services, turn, context, emit) if turn else [])

        return RunnableLambda(node, anode, name=name)

    def route(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Validate the task, pin its commit, plan its steps, run the test on the code as it is, and make the vectors
        that the steps will need ahead of them.

        `follows` says which steps may follow which; a router's plan that goes another way is refused.
        """
        started = time.monotonic()
        context = Context.of(runtime.context)
        task = requested_task(state)
        if task.kind == "issue":
            sha = self._services.repository(require_repo(task.repo)).resolve(task.base_commit)
            task = task.model_copy(update={"base_commit": sha})
        axes = context.axes(self._services.policy)  # the model is loaded here, behind what can be told without it
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
            "candidates": [],
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
        settings = self._services.settings
        room = room_for_context(reader, sections_of(task, state, settings), engine.count_tokens, engine.info.window)
        room = min(room, settings.context_tokens or room)
        empty = engine.count_tokens(reader.messages({"context": "."}))

        def count(text: str) -> int:
            shown = text if settings.numbered else in_fences(text)
            return max(0, engine.count_tokens(reader.messages({"context": shown})) - empty)

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
        """Turn what the patch specialist said into diffs, computed from the files as they are at the base commit."""
        shown = self._shown(state)
        attempt = state["attempt"]
        last = state["steps"][-1]
        answers = [s for s in state["steps"] if s["attempt"] == attempt and s["specialist"] == last["specialist"]]
        answers = [step for step in answers if not step["guard"]] or [last]
        drafts = [drafted(step["text"], self._services.settings.format, shown) for step in answers]
        for step, draft in zip(answers, drafts, strict=True):
            runtime.stream_writer(
                {
                    "event": "edit",
                    "attempt": attempt,
                    **({"candidate": step["candidate"]} if len(answers) > 1 else {}),
                    "edits": draft.edits,
                    "problems": list(draft.problems),
                    **({"inexact": list(draft.notes)} if draft.notes else {}),
                    "diff": draft.diff,
                }
            )
        candidates = [{"diff": draft.diff, "files": dict(draft.files)} for draft in in_order(drafts, shown.read)]
        update: dict[str, Any] = {"candidate": candidates[0] if candidates else None, "candidates": candidates}
        if not candidates:
            told = next((draft for draft in drafts if draft.edits), drafts[0])
            update |= _failed("edit_did_not_apply" if told.edits else "no_edit", list(told.problems))
        return update

    def _shown(self, state: State) -> Shown:
        task = Task.model_validate(state["task"])
        passages = (state.get("retrieval") or {}).get("passages", ())
        return shown_at(self._services.repository(require_repo(task.repo)), str(task.base_commit), passages)

    def check(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Check the last turn's patches one after the other: the first that applies, parses and passes the tests is the
        patch. Where none does, the one that came farthest is what a repair round is told of."""
        started = time.monotonic()
        context = Context.of(runtime.context)
        task = Task.model_validate(state["task"])
        repository = self._services.repository(require_repo(task.repo))
        known = TestRun.model_validate(state["tests_before"]) if state.get("tests_before") else None
        tests, sandbox = asked_tests(context, state["seconds"], known, runtime.stream_writer)
        candidates = state.get("candidates") or [state["candidate"] or {}]
        until = started + context.max_seconds - state["seconds"] if context.max_seconds else None
        best: Checked | None = None

        def copy_at(folder: Path) -> Any:
            return repository.working_copy(str(task.base_commit), folder)

        for one in checked(candidates, copy_at, tests, sandbox, known, until):
            best = one if best is None else better(best, one)
            said = {"attempt": state["attempt"], "ok": one.result.ok, "problems": list(one.result.problems)}
            said |= {"candidates": len(candidates)} if len(candidates) > 1 else {}
            runtime.stream_writer({"event": "check", **said, "tests": one.tests.model_dump(mode="json")})
        assert best is not None
        ran = best.tests.model_dump(mode="json")
        untested = why_untested(best.tests.before) if best.result.ok else None
        update: dict[str, Any] = {
            "candidate": dict(best.candidate),
            "tests": ran if best.tests.before and not untested else None,
            "tests_before": ran["before"],
            "untested": untested,
            "seconds": state["seconds"] + time.monotonic() - started,
        }
        if best.result.ok:
            status = "patched_untested" if untested else "patched"
            return update | {"patch": best.candidate["diff"], "status": status, "problems": [], "feedback": ""}
        status = "checks_failed" if best.result.applies else "edit_did_not_apply"
        return update | _failed(status, list(best.result.problems))

    def answer(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Read the answer out of the last step; with choices and none found, the likeliest letter."""
        task = Task.model_validate(state["task"])
        last = state["steps"][-1]
        numeric = self._services.roster[last["specialist"]].domain == "math"
        found = extract_answer(last["text"], task.choices, numeric=numeric)
        how = "said"
        if found is None and task.choices:
            found, how = (
                self._likeliest(state, Context.of(runtime.context), task, runtime.stream_writer),
                "scored",
            )
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


def _say(services: Services, turn: Turn, context: Context, emit: Emit) -> list[Step]:
    """What a specialist says: one answer, or a patch's candidates."""
    drawn = context.candidates if turn.specialist.machine_read else 1
    return draw(services, turn, drawn, emit) if drawn > 1 else speak(services, turn, emit)


async def _asay(services: Services, turn: Turn, context: Context, emit: Emit) -> list[Step]:
    drawn = context.candidates if turn.specialist.machine_read else 1
    return await (adraw(services, turn, drawn, emit) if drawn > 1 else aspeak(services, turn, emit))


def _failed(status: str, problems: list[str]) -> dict[str, Any]:
    words = "\n".join(problems)
    return {"status": status, "problems": problems, "feedback": words[:_FEEDBACK_CHARACTERS], "patch": None}
