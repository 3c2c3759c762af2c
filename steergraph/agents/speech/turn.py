"""A specialist's turn before it speaks: its vectors, the decision, the prompt and the request; and after: the state.

Knows the policy, budgets and prompts. How the engine is asked and waited for is `speak`'s business.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from steergraph.agents.edits.formats.shown import shown_at
from steergraph.agents.edits.grammar import edit_grammar
from steergraph.agents.policy import Decision, Situation, scaled
from steergraph.agents.run_config import Context
from steergraph.agents.services import Services, require_repo
from steergraph.agents.specialists import Specialist, resolve_steering
from steergraph.agents.speech.answers import answer_grammar, format_question
from steergraph.agents.speech.budget import FittedPrompt, fit
from steergraph.agents.speech.model_settings import ModelSettings
from steergraph.agents.state import State, Step, Task
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.configs.prompts import in_fences
from steergraph.engine.constrain.grammar import Grammar
from steergraph.engine.protocol import Request, Sampling

Emit = Callable[[dict[str, Any]], None]
_BACKTICKED = re.compile(r"`([^`\n]{2,80})`")


class Turn(Frozen):
    """Everything decided before the model speaks."""

    specialist: Specialist
    attempt: int
    decision: Decision
    prompt: FittedPrompt
    request: Request
    guarded: bool
    """Whether a steered answer is looked at; not with the gate off, where the published arms had no guard."""
    tokens_left: int | None
    """Completion tokens that the run may still spend; None: no limit."""
    held_to: str = ""
    """The edit format, or "answer", whose grammar the answer is held to."""
    left_out: tuple[str, ...] = ()
    """What of the files that were shown the grammar can't say."""
    free: str = ""
    """Why it is held to none, where the model's settings ask for it."""


def ensure_spoken_with(services: Services, names: Iterable[str], task: Task, context: Context, emit: Emit) -> None:
    """Make the vectors that the specialists `names` may speak with and the engine lacks; `emit` gets `vectors` events.

    Vectors lie in the engine, not in the graph's state: whoever needs one makes sure of it, because a run that goes on
    from its state has an engine that has seen nothing of what came before.
    """
    axes = context.axes(services.policy)
    if axes.steering == "none":
        return
    domains = {vector for name in names for vector in services.roster[name].vectors}
    if axes.steering == "static" and task.kind == "issue":
        domains.add(services.policy.static_domain)
    if context.vector:
        domains.add(context.vector)

    def progress(domain: str, done: int, of: int) -> None:
        emit({"event": "vectors", "domain": domain, "done": done, "of": of})

    services.ensure_vectors(sorted(domains), progress)
    if context.vector and context.vector not in services.engine.library:
        raise InputError(f"{services.engine.info.name} has no vector called {context.vector!r}")


def prepare(services: Services, name: str, state: State, context: Context, emit: Emit = lambda event: None) -> Turn:
    """Decide on steering and build the request for `name`'s turn, its vectors made where the engine lacks them.

    Raises InputError where its prompt can't fit, or a vector can't be made.
    """
    specialist = services.roster[name]
    task = Task.model_validate(state["task"])
    ensure_spoken_with(services, (name,), task, context, emit)
    policy, engine = services.policy, services.engine
    axes = context.axes(policy)
    attempt = state.get("attempt", 0) if specialist.output == "edits" else 0
    steering, evidence = resolve_steering(
        specialist,
        engine.library,
        engine.info,
        cluster=state.get("cluster"),
        static_domain=context.vector
        or (policy.static_domain if axes.steering == "static" and task.kind == "issue" else None),
    )
    if steering is not None and context.dose != 1.0:
        steering, evidence = scaled(steering, context.dose), None  # nothing is known of another dose
    repeats = _repeats(state, name) if attempt else 0
    sections = sections_of(task, {**state, "feedback": "", "notes": []} if repeats else state, services.settings)
    prompt = fit(specialist, sections, engine.count_tokens, engine.info.window)
    decision = policy.decide(
        Situation(
            steering=steering,
            axis=axes.steering,
            gate=axes.gate,
            context=bool(prompt.sections.get("context")),
            n_examples=len(task.examples) if prompt.sections.get("examples") else 0,
            thinking=context.thinking,
            machine_read=specialist.machine_read,
            model_kind=engine.info.kind,
            evidence=evidence.summary if evidence else "",
        )
    )
    held = _held(services, specialist, state) if services.settings.constrained else _Held()
    repairing = attempt > 0
    left = context.max_tokens - state.get("tokens", 0) if context.max_tokens else None
    bound = prompt.max_new_tokens if left is None else min(prompt.max_new_tokens, left)
    request = Request(
        messages=prompt.messages,
        steering=decision.steering,
        suspend=specialist.spans if decision.mode == "outside_spans" else (),
        stop=() if held.grammar else specialist.stop,
        grammar=held.grammar,
        sampling=Sampling(
            temperature=policy.repair.temperature_after(repeats) if repairing else context.temperature,
            top_p=policy.repair.top_p if repairing or context.temperature else 1.0,
            max_new_tokens=max(1, bound),
        ),
        seed=context.seed + attempt,
        deadline_s=max(0.1, context.max_seconds - state.get("seconds", 0.0)) if context.max_seconds else None,
        enable_thinking=context.thinking,
    )
    return Turn(
        specialist=specialist,
        attempt=attempt,
        decision=decision,
        prompt=prompt,
        request=request,
        guarded=axes.gate,
        tokens_left=left,
        held_to=held.to,
        left_out=held.left_out,
        free=held.why_not,
    )


class _Held(NamedTuple):
    grammar: Grammar | None = None
    to: str = ""
    why_not: str = ""
    left_out: tuple[str, ...] = ()


def _held(services: Services, specialist: Specialist, state: State) -> _Held:
    """The grammar of an edit or an answer, or why there is none."""
    task = Task.model_validate(state["task"])
    grammar: Grammar | None
    left_out: tuple[str, ...] = ()
    if specialist.output == "answer":
        form, grammar = "answer", answer_grammar(task.choices, numeric=specialist.domain == "math")
        if grammar is None:
            return _Held()
    elif specialist.output == "edits":
        form = services.settings.edit_format
        passages = (state.get("retrieval") or {}).get("passages")
        if not passages or task.repo is None:
            return _Held(why_not="no file was shown")
        repository = services.repository(require_repo(task.repo))
        try:
            found = edit_grammar(form, shown_at(repository, str(task.base_commit), passages))
        except InputError as error:
            return _Held(why_not=str(error))
        if found is None:
            return _Held(why_not=f"{form} has none")
        grammar, left_out = found
    else:
        return _Held()
    if not grammar.kinds <= services.engine.grammars:
        return _Held(why_not=f"{services.engine.info.name} can't be held to one")
    return _Held(grammar, form, left_out=left_out)


def _repeats(state: State, name: str) -> int:
    """How many attempts of `name` only repeated an earlier one, white space aside. What the guard refused was no
    attempt; of answers drawn at once the first counts, since equals among them are no repetition."""
    mine = [step for step in state.get("steps") or [] if step["specialist"] == name and not step.get("candidate")]
    steps = [step for step in mine if not step["guard"]]
    said = [" ".join(step["text"].split()) for step in steps]
    return len(said) - len(set(said))


def unsteered(turn: Turn, *refused: Step) -> Turn | None:
    """The same turn with steering off, because the guard refused what was said steered; None where the budget is
    spent."""
    decision = Decision(
        mode="off",
        steering=None,
        rule="guard",
        reason=f"the steered answer was refused: {refused[-1].guard}",
        evidence="this run",
    )
    left = None if turn.tokens_left is None else turn.tokens_left - sum(step.tokens.completion for step in refused)
    deadline = turn.request.deadline_s
    seconds = None if deadline is None else deadline - sum(step.seconds for step in refused)
    if (left is not None and left <= 0) or (seconds is not None and seconds <= 0):
        return None
    sampling = turn.request.sampling
    if left is not None:
        sampling = sampling.model_copy(update={"max_new_tokens": min(sampling.max_new_tokens, left)})
    request = turn.request.model_copy(
        update={"steering": None, "suspend": (), "sampling": sampling, "deadline_s": seconds}
    )
    return turn.model_copy(update={"decision": decision, "request": request, "tokens_left": left})


def turn_of(services: Services, name: str, state: State, context: Context, emit: Emit) -> Turn | None:
    """`name`'s next turn on a state, a repair round counted; None where the run's time or tokens are spent."""
    if context.max_seconds and state["seconds"] >= context.max_seconds:
        return None
    if context.max_tokens and state["tokens"] >= context.max_tokens:
        return None
    return prepare(services, name, _counted(state), context, emit)


def _counted(state: State) -> State:
    """A repair round is an attempt more: the check before it left its words in `feedback`."""
    return {**state, "attempt": state["attempt"] + 1} if state.get("feedback") else state


def spoken(state: State, turn: Turn | None, steps: list[Step]) -> dict[str, Any]:
    """What a turn changes of the state; None: there was no budget left for it."""
    if turn is None:
        return {"status": "out_of_budget"}
    last = steps[-1]
    again = bool(state.get("feedback"))
    update: dict[str, Any] = {
        "steps": [*state["steps"], *(step.model_dump(mode="json") for step in steps)],
        "tokens": state["tokens"] + sum(step.tokens.completion for step in steps),
        "seconds": state["seconds"] + sum(step.seconds for step in steps),
        "cursor": state["cursor"] if again else state["cursor"] + 1,
        "attempt": state["attempt"] + 1 if again else state["attempt"],
    }
    if turn.specialist.output == "text" and not last.echo:
        update["notes"] = [*state["notes"], {"specialist": last.specialist, "text": last.text}]
    return update


def sections_of(task: Task, state: Mapping[str, Any], settings: ModelSettings) -> dict[str, str]:
    """Every section a prompt can be built from, by name; empty ones included.

    With feedback on a failed edit there are no notes, because the edit may have failed by following them. Where the
    model's settings say so, each repair round halves the passages, best first: a small model that looked in the wrong
    place looks at less.
    """
    retrieval = state.get("retrieval") or {}
    feedback = state.get("feedback", "")
    passages = retrieval.get("passages", [])
    rounds = state.get("attempt", 0) if feedback and settings.narrow else 0
    context = "\n\n".join(passage["text"] for passage in passages[: max(1, len(passages) >> rounds)])
    notes = [note["text"].strip() for note in state.get("notes") or [] if not feedback]
    return {
        "issue": task.problem,
        "question": format_question(task.problem, task.choices),
        "examples": "\n\n".join(task.examples),
        "context": context if settings.numbered else in_fences(context),
        "notes": "\n".join(note for note in notes if note),
        "feedback": feedback,
    }


def suspects(notes: list[dict[str, str]]) -> list[str]:
    """The names that specialists put in backticks, in order, each once."""
    found = [name for note in notes for name in _BACKTICKED.findall(note["text"])]
    return list(dict.fromkeys(found))
