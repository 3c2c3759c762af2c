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
from pathlib import Path
from statistics import fmean
from typing import Any

from steergraph.agents.driving import versions
from steergraph.base.errors import InputError
from steergraph.base.files import need_writable, write_or_print
from steergraph.engine.protocol import Engine
from steergraph.evals.lab.experiment import Arm, Item, speak
from steergraph.evals.stats import mean_interval, wilson
from steergraph.sandbox.run import Sandbox
from training.tasks.questions import chance, choices_of, draw_items, fact_of, grade_answers
from training.tasks.registers import REGISTERS, corpus_registers

_BATCH = 64
_JSON = "calendar_json"
_FIELDS = {"title", "date", "start_time", "end_time", "location", "attendees"}


def measure(engine: Engine, sandbox: Sandbox, n: int, seed: int) -> dict[str, Any]:
    """Figures of `n` answers in each register."""
    registers = corpus_registers("the classifier's lessons")
    command = f"python -m training.abilities --model {engine.info.name} --n {n} --seed {seed}"
    report: dict[str, Any] = {"model": engine.info.model_dump(), "n": n, "seed": seed, "command": command}
    report |= {"versions": versions(), "registers": {}}
    told_all = []
    for name in REGISTERS:
        items = draw_items(name, "own", "any", seed, n)
        texts = [one.text for one in speak(engine, [(item, Arm(name="unsteered")) for item in items])]
        samples = [item.truth for item in items]
        told = [register == name for register in registers.tell(texts)]
        told_all += told
        found = {
            "right": _right(items, grade_answers(samples, texts, sandbox)),
            "chance": round(fmean(chance(sample) for sample in samples), 4),
            "register": _share(told),
        }
        if name == "calendar":
            found["valid_json"] = _valid_json(engine, items, texts, seed)
        report["registers"][name] = found
        print(f"{name}: {found}", file=sys.stderr, flush=True)
    report["register"] = {"n": len(told_all), "share": _share(told_all)}
    return report


def _valid_json(engine: Engine, items: Sequence[Item], texts: Sequence[str], seed: int) -> dict[str, Any]:
    """Of as many requests for JSON as there are `items`, how many get an entry. `items` have been answered by `texts`;
    about every second request is one for JSON, so that others are drawn beyond them."""
    n = len(items)
    answered = [text for item, text in zip(items, texts, strict=True) if item.truth.kind == _JSON]
    more = [item for item in draw_items("calendar", "own", "any", seed, 3 * n + 20)[n:] if item.truth.kind == _JSON]
    asked = [(item, Arm(name="unsteered")) for item in more[: n - len(answered)]]
    valid = [is_entry(text) for text in (*answered, *(one.text for one in speak(engine, asked)))]
    return {"n": len(valid), "share": _share(valid)}


def is_entry(text: str) -> bool:
    """Whether an answer is one JSON object with the fields of a calendar entry."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() == _FIELDS


def _right(items: Sequence[Item], grades: Sequence[float]) -> list[float]:
    """The share of right answers; where facts are asked for more than once, the facts are what is resampled."""
    by_fact: dict[str, list[float]] = defaultdict(list)
    for item, grade in zip(items, grades, strict=True):
        if choices_of(item.truth):
            by_fact[fact_of(item.truth)].append(grade)
    if not by_fact:
        return _share(grades)
    share = mean_interval([fmean(of_one) for of_one in by_fact.values()])
    return [round(value, 4) for value in (share.estimate, share.low, share.high)]


def _share(hits: Sequence[float]) -> list[float]:
    share = wilson(int(sum(hits)), len(hits))
    return [round(value, 4) for value in (share.estimate, share.low, share.high)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.abilities", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--n", type=int, default=300, help="questions a register")
    parser.add_argument("--seed", type=int, default=778)
    parser.add_argument("--out", type=Path, help="JSON file; the screen where left out")
    given = parser.parse_args(arguments)
    from steergraph.engine.local import LocalEngine

    try:
        if given.n < 1:
            raise InputError(f"--n {given.n}: at least 1")
        need_writable(given.out)
        with LocalEngine(given.model, max_batch=_BATCH) as engine:
            text = json.dumps(measure(engine, Sandbox.detect(), given.n, given.seed), indent=1) + "\n"
        write_or_print(given.out, text)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
