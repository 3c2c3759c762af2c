"""Routers: what each goes by, that all give plans of the roster, and what they say where they can't route."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
import yaml
from tiny_models import WINDOW, tiny_model

from steergraph.agents.graph import build_graph
from steergraph.agents.router import (
    Router,
    ask_names,
    asking,
    probe_with,
    probing,
    router_named,
    rules,
    shortened,
)
from steergraph.agents.specialists import Roster
from steergraph.agents.state import Task
from steergraph.base.errors import InputError
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Message
from steergraph.engine.scripted import ScriptedEngine
from steergraph.vectors.extract.contrast import load_contrast

ROSTER = Roster.load()
QUESTION = Task(kind="reasoning", problem="What is the sum of 3 and 4?")
ISSUE = Task(kind="issue", problem="The server answers 500 for every template.", repo="somewhere/else")


@cache
def engine() -> LocalEngine:
    return LocalEngine(str(tiny_model("qwen3")))


def scored(**scores: float) -> Router:
    def score_domains(_problem: str, domains: Mapping[str, str | None]) -> Mapping[str, float]:
        return {name: scores.get(name, -9.0) for name in domains}

    return probing(score_domains)


def test_the_domain_heard_best_speaks() -> None:
    for name in ("math", "law", "history"):
        route = scored(**{name: 2.0})(QUESTION, ROSTER, retrieval=True)
        assert route.plan == (name,)
        assert route.reason == f"{name} is heard best in the question, log-odds 2.0, ahead by 11.0"


def test_an_issue_keeps_its_plan_and_an_unknown_repository_gets_the_cluster_heard() -> None:
    plain = rules(ISSUE, ROSTER, retrieval=True)
    assert plain.cluster is None
    route = scored(django_web=3.0, dev_tooling=1.0)(ISSUE, ROSTER, retrieval=True)
    assert (route.plan, route.cluster) == (plain.plan, "django_web")
    assert "by listening, log-odds 3.0" in route.reason
    assert scored(django_web=-0.1)(ISSUE, ROSTER, retrieval=True) == plain
    known = ISSUE.model_copy(update={"project": "sympy/sympy"})
    assert scored(django_web=99.0)(known, ROSTER, retrieval=False) == rules(known, ROSTER, retrieval=False)


def test_a_real_model_listens_with_the_packaged_sets(tmp_path: Path) -> None:
    router = router_named("activation", engine, tmp_path)
    for problem in (load_contrast("law").positives[3], "x " * 4 * WINDOW):
        route = router(QUESTION.model_copy(update={"problem": problem}), ROSTER, retrieval=True)
        assert route.plan[0] in ROSTER.reasoning_words
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_ones_own_domain_is_listened_to_with_its_own_set(tmp_path: Path) -> None:
    (tmp_path / "pets.yaml").write_text(
        yaml.safe_dump({"name": "animals", "positives": [f"the cat {n} sleeps 東京" for n in range(8)]})
    )
    own = {"name": "pets", "domain": "pets", "system": "You know pets.", "reads": ["question"], "output": "answer"}
    table = {"specialists": [{**own, "contrast": "pets.yaml"}], "reasoning_words": {"pets": ["cat"]}}
    (tmp_path / "roster.yaml").write_text(yaml.safe_dump(table))
    roster = Roster.load(tmp_path / "roster.yaml")
    route = router_named("activation", engine, tmp_path / "cache")(
        QUESTION.model_copy(update={"problem": "the cat 77 sleeps 東京"}), roster, retrieval=True
    )
    assert route.plan == ("pets",)


def test_the_model_is_asked_for_names_and_its_habits_are_taken_off() -> None:
    names = ["math", "law", "history"]
    assert ask_names(engine(), "N/A", names) == pytest.approx(dict.fromkeys(names, 0.0), abs=1e-4)
    scores = ask_names(engine(), QUESTION.problem, names)
    assert set(scores) == set(names)
    assert len({round(score, 6) for score in scores.values()}) == 3
    best = max(names, key=lambda name: scores[name])
    assert asking(engine)(QUESTION, ROSTER, retrieval=True).plan == (best,)
    assert asking(engine)(ISSUE, ROSTER, retrieval=True) == rules(ISSUE, ROSTER, retrieval=True)


def test_rules_never_ask_for_the_model() -> None:
    def never() -> LocalEngine:
        raise AssertionError("asked for the model")

    assert router_named("rules", never)(QUESTION, ROSTER, retrieval=True).plan == ("math",)
    asking(never)(ISSUE, ROSTER, retrieval=True)


def test_long_problems_are_cut_to_the_window() -> None:
    def prompt(text: str) -> tuple[Message, ...]:
        return (Message(role="user", content=text),)

    text = shortened("fix the bug " * 999, prompt, engine())
    assert WINDOW // 2 < engine().count_tokens(prompt(text)) <= WINDOW - 32
    assert shortened("short", prompt, engine()) == "short"
    with pytest.raises(InputError, match="too small to route in"):
        shortened("x", lambda text: prompt("y " * 999 + text), engine())


def test_what_cannot_route_is_one_line() -> None:
    with pytest.raises(InputError, match="no router called 'best'"):
        router_named("best", engine)  # type: ignore[arg-type]
    scripted = ScriptedEngine([])
    with pytest.raises(InputError, match="use rules or model"):
        probe_with(lambda: scripted)("x", {"math": None, "law": None})


def test_a_graph_takes_any_of_them() -> None:
    graph = build_graph(engine=ScriptedEngine(lambda request: "#### 7"), router=scored(history=1.0))
    out = graph.invoke({"problem": QUESTION.problem, "kind": "reasoning"})
    assert [step["specialist"] for step in out["steps"]] == ["history"]


def test_a_graph_takes_a_router_by_name_on_its_own_engine() -> None:
    engine = ScriptedEngine(lambda request: "#### 7")
    asked = {"problem": QUESTION.problem, "kind": "reasoning"}
    assert build_graph(engine=engine, router="rules").invoke(asked)["answer"] == "7"
    with pytest.raises(InputError, match="use rules or model"):
        build_graph(engine=engine, router="activation").invoke(asked)
    with pytest.raises(InputError, match="no router called 'best'"):
        build_graph(engine=engine, router="best")  # type: ignore[arg-type]
