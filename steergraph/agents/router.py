"""Which specialists speak on a task, in which order, and which cluster its repository belongs to.

`rules` reads the task's kind, repository and words. The protocol leaves room for routers that ask the model or listen
to its activations.
"""

import re
from typing import Protocol

from steergraph.agents.specialists import Roster
from steergraph.agents.state import Task
from steergraph.configs import load_config
from steergraph.vectors.steering import Frozen


class Route(Frozen):
    plan: tuple[str, ...]
    """Names of specialists, and `retrieve`."""
    cluster: str | None
    reason: str


class Router(Protocol):
    def __call__(self, task: Task, roster: Roster, *, retrieval: bool) -> Route: ...


def rules(task: Task, roster: Roster, *, retrieval: bool) -> Route:
    """Route by repository, task kind and words. Deterministic; no model is asked."""
    cluster = cluster_of(task.project or task.repo or "")
    if task.kind == "issue":
        name = "issue_with_retrieval" if retrieval else "issue_without_retrieval"
        return Route(plan=roster.plans[name], cluster=cluster, reason=f"an issue, plan {name}")
    domain = reasoning_domain(task.problem, roster)
    plan = tuple(domain if step == "DOMAIN" else step for step in roster.plans["reasoning"])
    return Route(plan=plan, cluster=None, reason=f"a question whose words are most like {domain}")


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
