"""Measure generated repairs: `python -m training.repairs [--model pocket] [--n 300] [--samples 8]`.

Repairs of pocket's corpus that training never drew, in four splits: `seen` (the same words, functions, phrasings and
families of defects, other samples), and three in which something is new: `names` (words, and half of the functions),
`phrasings`, `families` (and with them most of the functions). Each repair is asked with three kinds of notes: none, the
model's `own` specialists', or `true` ones, which are made from the defect and two times of three have the right line in
them. An answer is

- `well_formed` where it is exactly one edit block, right or wrong;
- `exact` where it is the expected text;
- `repaired` where it applies to the shown file and the function then passes its hidden test: every drawn call but the
  one the issue may tell of gives what the right code gives. The calls are played in the sandbox. Repairs of which no
  hidden call shows the defect are not asked.

With `--samples N`, N answers are drawn beside the greedy one, but for true notes, and a chooser that sees the visible
call alone takes the first that passes it; what it takes is scored by the hidden test. Knows pocket's corpus and the
engine's protocol.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from steergraph.base.errors import InputError
from steergraph.configs.prompts import build_messages
from steergraph.engine.protocol import Engine, Message
from steergraph.sandbox.run import Sandbox
from training.corpus.samples import Sample, Split, draw_repair
from training.hidden_tests import Verdict, can_be_judged, judge
from training.measuring import ask, parser_of, report, share_of

SPLITS: tuple[Split, ...] = ("seen", "names", "phrasings", "families")
_SPECIALISTS = ("bug_analysis", "test_reasoning", "code_reading")
_ROOM, _NOTE = 200, 90
"""Tokens that an edit and a note may have."""


def fitting(engine: Engine, seed: int, split: Split, notes: bool, n: int) -> list[Sample]:
    """The first `n` repairs of the split that can be judged, and whose prompt leaves the model room for an answer, and
    for notes where it has none."""
    drawn: list[Sample] = []
    index = 0
    while len(drawn) < n:
        sample = draw_repair(seed, index, split, notes)
        messages = [Message.model_validate(message) for message in sample.messages]
        room = _ROOM if notes else _ROOM + len(_SPECIALISTS) * _NOTE
        if can_be_judged(sample) and engine.count_tokens(messages) + room <= engine.info.window:
            drawn.append(sample)
        index += 1
        if index > 20 * n + 100:
            raise InputError(f"the window of {engine.info.name} ({engine.info.window} tokens) holds too few repairs")
    return drawn


def answers_of(engine: Engine, samples: Sequence[Sample], seed: int | None = None) -> list[str]:
    """What the engine answers to each sample: greedy, or drawn with `seed`."""
    return ask(engine, [sample.messages for sample in samples], _ROOM, seed)


def with_own_notes(engine: Engine, samples: Sequence[Sample]) -> list[Sample]:
    """The same repairs, with what the model's other specialists say of them in the prompt, laid out as by the graph."""
    by_specialist = [
        ask(engine, [build_messages(name, sample.sections) for sample in samples], _NOTE) for name in _SPECIALISTS
    ]
    notes = ["\n".join(note.strip() for note in of_one if note.strip()) for of_one in zip(*by_specialist, strict=True)]
    return [
        replace(sample, messages=tuple(build_messages("patch_writing", {**sample.sections, "notes": text})))
        for sample, text in zip(samples, notes, strict=True)
    ]


def measure(engine: Engine, sandbox: Sandbox, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of `n` repairs of each split, without notes and with: shares with their Wilson intervals."""
    n, samples, seed = options.n, options.samples, options.seed
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        families: dict[str, list[Verdict]] = defaultdict(list)
        splits[split] = {}
        plain = fitting(engine, seed, split, False, n)
        arms = {"no": plain, "own": with_own_notes(engine, plain), "true": fitting(engine, seed, split, True, n)}
        for notes, drawn in arms.items():
            greedy = judge(drawn, answers_of(engine, drawn), sandbox)
            if notes == "no":
                for sample, verdict in zip(drawn, greedy, strict=True):
                    families[sample.family].append(verdict)
            arm = _figures(greedy) | by_function(drawn, greedy)
            if samples and notes != "true":
                arm[f"best_of_{samples + 1}"] = _figures(_best_of(engine, sandbox, drawn, greedy, samples))["repaired"]
            splits[split][f"{notes}_notes"] = arm
            print(f"{split}, {notes} notes: {arm}", file=sys.stderr, flush=True)
        splits[split]["families"] = {name: _figures(families[name]) for name in sorted(families)}
    return {"splits": splits}


def by_function(drawn: Sequence[Sample], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Figures of the functions that training draws from and of those it does not; {} where there is one kind only."""
    kinds: dict[str, list[Verdict]] = {"trained_functions": [], "new_functions": []}
    for sample, verdict in zip(drawn, verdicts, strict=True):
        new = sample.scene is not None and sample.scene.piece.new
        kinds["new_functions" if new else "trained_functions"].append(verdict)
    return {name: _figures(of_kind) for name, of_kind in kinds.items()} if all(kinds.values()) else {}


def _best_of(
    engine: Engine, sandbox: Sandbox, drawn: Sequence[Sample], greedy: Sequence[Verdict], samples: int
) -> list[Verdict]:
    """The first candidate that passes the visible call, the greedy one before all; it where none does."""
    chosen = list(greedy)
    for number in range(1, samples + 1):
        left = [at for at, verdict in enumerate(chosen) if not verdict.visible]
        if not left:
            break
        tried = [drawn[at] for at in left]
        for at, verdict in zip(left, judge(tried, answers_of(engine, tried, number), sandbox), strict=True):
            if verdict.visible:
                chosen[at] = verdict
    return chosen


def _figures(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    names = ("repaired", "visible", "exact", "well_formed")
    return {"n": len(verdicts)} | {name: share_of([getattr(one, name) for one in verdicts]) for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of("training.repairs", __doc__, 777)
    parser.add_argument("--samples", type=int, default=0, help="answers drawn beside the greedy one")
    return report(measure, parser, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
