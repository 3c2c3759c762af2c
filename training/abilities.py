"""What a model can do of what pocket learns: `python -m training.abilities [--model pocket] [--n 300]`.

For each register `n` questions, each under the specialist's own prompt, answered greedily and unsteered: how many
answers are right, beside guessing, and how many the classifier finds in the register; of calendar requests for JSON
also how many are valid. Training drew none of the questions, but for those of law and history: these ask for its 36
facts each, with other options. Shares with 95 % intervals: Wilson's, and of those two a bootstrap over the facts.
Knows the lab's tasks. Repairs have a measurement of their own (`training.repairs`).
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from steergraph.engine.protocol import Engine
from steergraph.evals.lab.tasks import Question
from steergraph.evals.stats import mean_interval
from steergraph.sandbox.run import Sandbox
from training.measuring import ask, parser_of, report, rounded, share_of
from training.tasks.pocket import POCKET
from training.tasks.questions import chance, choices_of, draw_questions, fact_of, grade_answers
from training.tasks.registers import REGISTERS

_BATCH = 64
_JSON = "calendar_json"
_FIELDS = {"title", "date", "start_time", "end_time", "location", "attendees"}


def measure(engine: Engine, sandbox: Sandbox, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of `n` answers in each register."""
    classifier = POCKET.classifier()
    registers: dict[str, Any] = {}
    told_all = []
    for name in REGISTERS:
        questions = draw_questions(name, "any", options.seed, options.n)
        texts = _answers(engine, questions)
        told = [register == name for register in classifier.tell(texts)]
        told_all += told
        registers[name] = {
            "right": _right(questions, grade_answers([one.truth for one in questions], texts, sandbox)),
            "chance": round(fmean(chance(one.truth) for one in questions), 4),
            "register": share_of(told),
        }
        if name == "calendar":
            registers[name]["valid_json"] = _valid_json(engine, questions, texts, options.seed)
        print(f"{name}: {registers[name]}", file=sys.stderr, flush=True)
    return {"registers": registers, "register": {"n": len(told_all), "share": share_of(told_all)}}


def _answers(engine: Engine, questions: Sequence[Question]) -> list[str]:
    """Greedy ones; the questions of a register all leave as much room."""
    return ask(engine, [one.messages for one in questions], questions[0].max_new_tokens) if questions else []


def _valid_json(engine: Engine, questions: Sequence[Question], texts: Sequence[str], seed: int) -> dict[str, Any]:
    """Of as many requests for JSON as there are `questions`, how many get an entry. `questions` have been answered by
    `texts`; about every second request is one for JSON, so that others are drawn beyond them."""
    n = len(questions)
    answered = [text for one, text in zip(questions, texts, strict=True) if one.truth.kind == _JSON]
    beyond = draw_questions("calendar", "any", seed, 3 * n + 20)[n:]
    more = [one for one in beyond if one.truth.kind == _JSON][: n - len(answered)]
    valid = [is_entry(text) for text in (*answered, *_answers(engine, more))]
    return {"n": len(valid), "share": share_of(valid)}


def is_entry(text: str) -> bool:
    """Whether an answer is one JSON object with the fields of a calendar entry."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() == _FIELDS


def _right(questions: Sequence[Question], grades: Sequence[float]) -> list[float]:
    """The share of right answers; where facts are asked for more than once, the facts are what is resampled."""
    by_fact: dict[str, list[float]] = defaultdict(list)
    for one, grade in zip(questions, grades, strict=True):
        if choices_of(one.truth):
            by_fact[fact_of(one.truth)].append(grade)
    if not by_fact:
        return share_of(grades)
    return rounded(mean_interval([fmean(of_one) for of_one in by_fact.values()]))


def main(arguments: Sequence[str] | None = None) -> int:
    return report(measure, parser_of("training.abilities", __doc__, 778), arguments, max_batch=_BATCH)


if __name__ == "__main__":
    raise SystemExit(main())
