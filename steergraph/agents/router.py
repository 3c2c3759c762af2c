"""Which specialists speak on a task, in which order, and which cluster its repository belongs to.

`rules` reads the task's kind, repository and words. `asking` has the model score the specialists' names. `probing`
projects the task's residual on the domains' vectors, the ones that steer, and the domain that scores best speaks. The
plan of an issue is the roster's whichever routes; what a probe adds there is the cluster of an unknown repository.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from steergraph.agents.policy import RouterName
from steergraph.agents.specialists import Roster
from steergraph.agents.state import Task
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.configs import load_config
from steergraph.engine.protocol import Engine, Message, ScoreRequest

if TYPE_CHECKING:
    from steergraph.vectors.compare.probe import Probe

ScoreDomains = Callable[[str, Mapping[str, str | None]], Mapping[str, float]]
"""Given a prompt and domains (each with the path of its contrast set, None: the packaged one): the score of each in it,
in nats of log-odds."""
NO_QUESTION = "N/A"
ROOM = 32
"""Tokens that a routing prompt leaves free in the window, for a name and its surroundings."""


class Route(Frozen):
    plan: tuple[str, ...]
    """Names of specialists, and `retrieve`."""
    cluster: str | None
    reason: str


class Router(Protocol):
    def __call__(self, task: Task, roster: Roster, *, retrieval: bool) -> Route: ...


def router_named(mode: RouterName, engine: Callable[[], Engine], cache_dir: Path | None = None) -> Router:
    """The router of that name; `engine` is called when it first has to know the model, and not by `rules`.

    Raises InputError for another name. What `activation` raises where the engine's model can't be probed comes at the
    first task.
    """
    if mode == "rules":
        return rules
    if mode == "model":
        return asking(engine)
    if mode == "activation":
        return probing(probe_with(engine, cache_dir))
    raise InputError(f"no router called {mode!r}: there are rules, model and activation")


def rules(task: Task, roster: Roster, *, retrieval: bool) -> Route:
    """Route by repository, task kind and words. Deterministic; no model is asked."""
    if task.kind == "issue":
        return _issue(task, roster, retrieval)
    domain = reasoning_domain(task.problem, roster)
    return _reasoning(roster, domain, f"a question whose words are most like {domain}")


def asking(engine: Callable[[], Engine]) -> Router:
    """Route a question to the specialist whose name the model finds likeliest after it."""

    habits: dict[tuple[str, ...], list[float]] = {}

    def route(task: Task, roster: Roster, *, retrieval: bool) -> Route:
        if task.kind == "issue":
            return _issue(task, roster, retrieval)
        names = list(roster.reasoning_words)
        scores = ask_names(engine(), task.problem, names, habits)
        best = max(names, key=lambda name: scores[name])
        return _reasoning(roster, best, f"the model's likeliest name, by {_lead(scores):.2f} nats")

    return route


def probing(score_domains: ScoreDomains) -> Router:
    """Route a question to the specialist whose domain scores best in it, and an issue to the cluster that does."""

    def route(task: Task, roster: Roster, *, retrieval: bool) -> Route:
        if task.kind == "issue":
            known = _issue(task, roster, retrieval)
            if known.cluster is not None:
                return known
            scores = score_domains(task.problem, dict.fromkeys(sorted(load_config("clusters")["clusters"])))
            best = max(scores, key=lambda name: scores[name])
            if scores[best] < 0:
                return known
            reason = f"{known.reason}; its cluster by listening, log-odds {scores[best]:.1f}"
            return known.model_copy(update={"cluster": best, "reason": reason})
        domains = {roster[name].domain: name for name in roster.reasoning_words}
        scores = score_domains(task.problem, {domain: roster.contrast_sets.get(domain) for domain in domains})
        best = max(scores, key=lambda domain: scores[domain])
        reason = f"{best} is heard best in the question, log-odds {scores[best]:.1f}, ahead by {_lead(scores):.1f}"
        return _reasoning(roster, domains[best], reason)

    return route


def probe_with(engine: Callable[[], Engine], cache_dir: Path | None = None) -> ScoreDomains:
    """Probe with the packaged contrast sets on an engine whose model is in this process. A probe is learned once for
    each group of domains and model, and kept beside its vectors."""

    probes: dict[tuple[str, ...], Probe] = {}

    def score_domains(problem: str, domains: Mapping[str, str | None]) -> Mapping[str, float]:
        from steergraph.engine.local import LocalEngine
        from steergraph.vectors.extract.contrast import load_contrast
        from steergraph.vectors.store.probes import ensure_probe

        speaker = engine()
        if not isinstance(speaker, LocalEngine):
            raise InputError("routing by activation listens to the model, which this engine can't; use rules or model")
        key = (speaker.info.name, speaker.info.revision, *(f"{name}={path}" for name, path in domains.items()))
        if key not in probes:
            sets = [
                load_contrast(Path(path) if path else name).model_copy(update={"name": name})
                for name, path in domains.items()
            ]
            probes[key] = ensure_probe(speaker.loaded, sets, cache_dir=cache_dir)
        text = shortened(problem, lambda text: (Message(role="user", content=text),), speaker)
        return probes[key].score_texts(speaker.loaded, [text])[0]

    return score_domains


def ask_names(
    engine: Engine, problem: str, names: Sequence[str], habits: dict[tuple[str, ...], list[float]] | None = None
) -> dict[str, float]:
    """How much likelier each name is as the answer to "who answers this?" than where there is no question, in nats.
    `habits` keeps what is likely where there is none, from one call on the same engine to the next.

    Taking off what is likely anyway is contextual calibration (Zhao et al. 2021, "Calibrate before use"): without it a
    small model always says the same name.
    """

    def prompt(text: str) -> tuple[Message, ...]:
        listed = "\n".join(f"- {name.replace('_', ' ')}" for name in names)
        asked = (
            f"Question:\n{text}\n\nWhich of these fields is the question from? Answer with its name alone.\n{listed}"
        )
        return (Message(role="user", content=asked),)

    def totals(content: str) -> list[float]:
        asked = prompt(content)
        given = [ScoreRequest(messages=asked, continuation=name.replace("_", " ")) for name in names]
        return [scores.total for scores in engine.score(given)]

    known = {} if habits is None else habits
    key = tuple(names)
    if key not in known:
        known[key] = totals(NO_QUESTION)
    said = totals(shortened(problem, prompt, engine))
    return {name: total - habit for name, total, habit in zip(names, said, known[key], strict=True)}


def shortened(problem: str, prompt: Callable[[str], tuple[Message, ...]], engine: Engine) -> str:
    """The beginning of `problem` with which the prompt fits the window. Raises InputError where none does."""
    room, text = engine.info.window - ROOM, problem
    while (count := engine.count_tokens(prompt(text))) > room:
        if len(text) < 2:
            raise InputError(f"the window of {engine.info.name} ({engine.info.window}) is too small to route in")
        text = text[: max(1, min(len(text) - 1, int(len(text) * room / count * 0.95)))]
    return text


def reasoning_domain(problem: str, roster: Roster) -> str:
    """The domain most of whose words the problem has; the first of several that lead.

    Where no domain has a word, a problem with two numbers is mathematics, and any other goes to the first domain.
    """
    text = problem.lower()
    hits = {
        domain: sum(bool(re.search(rf"\b{re.escape(word)}\b", text)) for word in words)
        for domain, words in roster.reasoning_words.items()
    }
    if not any(hits.values()) and "math" in hits and len(re.findall(r"\d+", text)) >= 2:
        return "math"
    return max(hits, key=lambda domain: hits[domain])


def cluster_of(project: str) -> str | None:
    """The cluster of `owner/name`, of a URL or a path that ends so, or of `owner__name`; None where there is none."""
    tail = re.sub(r"\.(git|bundle)$", "", project.rstrip("/")).replace("__", "/").lower()
    name = "/".join(tail.split("/")[-2:])
    for cluster, repositories in load_config("clusters")["clusters"].items():
        if name in repositories:
            return str(cluster)
    return None


def _issue(task: Task, roster: Roster, retrieval: bool) -> Route:
    name = "issue_with_retrieval" if retrieval else "issue_without_retrieval"
    cluster = cluster_of(task.project or task.repo or "")
    return Route(plan=roster.plans[name], cluster=cluster, reason=f"an issue, plan {name}")


def _reasoning(roster: Roster, specialist: str, reason: str) -> Route:
    plan = tuple(specialist if step == "DOMAIN" else step for step in roster.plans["reasoning"])
    return Route(plan=plan, cluster=None, reason=reason)


def _lead(scores: Mapping[str, float]) -> float:
    ordered = sorted(scores.values(), reverse=True)
    return ordered[0] - ordered[1] if len(ordered) > 1 else 0.0
