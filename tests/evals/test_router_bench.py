"""The measurement of routers: nothing that is judged was learned from, the baseline is naive Bayes, the table adds
up."""

import json
import math
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from tiny_models import tiny_model

from steergraph.agents.specialists import Roster
from steergraph.base.errors import InputError
from steergraph.cli.app import invoke
from steergraph.engine.local import LocalEngine
from steergraph.evals.routing import (
    AGENT_DOMAINS,
    BagOfWords,
    Problem,
    agent_problems,
    measure,
    mmlu_problem,
    roster_problem,
)
from steergraph.vectors.extract.contrast import ContrastSet

OPENINGS = {"math": "77 8 77 8", "law": "def total(items)", "physics": "東京 é ü ß 🙂"}


@cache
def engine() -> LocalEngine:
    return LocalEngine(str(tiny_model("qwen3")))


def dataset(path: Path, count: int = 24) -> Path:
    rows = [
        {
            "question_id": f"{topic}-{n}",
            "question": f"{opening} asks for the name of file {n} and a row of prices",
            "category": topic,
        }
        for topic, opening in OPENINGS.items()
        for n in range(count)
    ]
    path.write_text(json.dumps(rows))
    return path


def test_the_agent_domains_are_judged_once_each_on_texts_not_learned_from() -> None:
    folds = agent_problems()
    judged = Counter(text for fold in folds for text, _ in fold.tests)
    assert set(judged.values()) == {1}
    assert len(judged) == 4 * 32
    for fold in folds:
        assert fold.domains == AGENT_DOMAINS
        learned = {text for one in fold.sets for text in (*one.positives, *one.neutrals)}
        assert not learned & {text for text, _ in fold.tests}


def test_questions_that_are_judged_are_in_no_set(tmp_path: Path) -> None:
    problem = mmlu_problem(dataset(tmp_path / "d.json"), per_group=8, tests=5)
    learned = {text for one in problem.sets for text in (*one.positives, *one.neutrals)}
    assert Counter(domain for _, domain in problem.tests) == dict.fromkeys(OPENINGS, 5)
    assert not learned & {text for text, _ in problem.tests}
    small = roster_problem(problem, Roster.load())
    assert small.domains == ("law", "math")
    assert {domain for _, domain in small.tests} == {"law", "math"}
    with pytest.raises(InputError, match="no questions are left"):
        mmlu_problem(dataset(tmp_path / "e.json", 11), per_group=11)


def test_the_bag_is_naive_bayes_by_hand() -> None:
    bag = BagOfWords({"a": ["red red blue"], "b": ["blue", "green"]})
    scores = bag.score("red green unseen")
    by_hand = {
        "a": math.log(1 / 3) + math.log(3 / 7) + math.log(1 / 7) * 2,
        "b": math.log(2 / 3) + math.log(1 / 6) + math.log(2 / 6) + math.log(1 / 6),
    }
    assert scores == pytest.approx(by_hand)


def test_every_router_is_measured_on_the_same_items() -> None:
    def one(name: str) -> ContrastSet:
        texts = [f"{OPENINGS[name]} case {n} {OPENINGS[name]}" for n in range(12)]
        return ContrastSet(
            name=name, domain=name, positives=tuple(texts), neutrals=tuple(f"a walk {n} and tea" for n in range(8))
        )

    tests = tuple((f"{OPENINGS[name]} case {n} {OPENINGS[name]}", name) for name in OPENINGS for n in range(20, 24))
    table = measure("small", [Problem(tuple(map(one, OPENINGS)), tests)], engine(), Roster.load())
    scores = {score.router: score for score in table.scores}
    assert set(scores) == {"activation", "activation, whitened", "model", "rules", "bag of words"}
    assert {score.n for score in table.scores} == {12}
    assert scores["bag of words"].right >= 8
    assert scores["activation, whitened"].right >= 8
    assert scores["bag of words"].against_baseline is None
    assert scores["rules"].note == "knows words for 2 of 3"
    for score in table.scores:
        assert 0 <= score.low <= score.right / score.n <= score.high <= 1


def test_what_cannot_be_measured_is_one_line(tmp_path: Path) -> None:
    for arguments, word in (
        (["--tests", "0"], "at least 1"),
        (["--per-group", "3"], "from 8"),
        (["--data", "none.parquet"], "no dataset at"),
        (["--data", str(dataset(tmp_path / "d.json"))], "too few usable texts"),
    ):
        with pytest.raises(InputError, match=word) as caught:
            invoke(["route-bench", *arguments])
        assert "\n" not in str(caught.value)
