"""Measure generated repairs: `python -m steergraph.evals.repairs [--model pocket] [--n 300] [--samples 8]`.

Repairs of pocket's corpus that training never drew, in four splits: `seen` (the same words, functions, phrasings and
families of defects, other samples), and three in which one of these is new: `names` (words, and half of the functions),
`phrasings`, `families`. An answer is

- `well_formed` where it is exactly one edit block, right or wrong;
- `exact` where it is the expected text;
- `repaired` where it applies to the shown file and the function then passes its hidden test: every drawn call but the
  one the issue may tell of gives what the right code gives. The calls are played in the sandbox.

With `--samples N`, N answers are drawn beside the greedy one and a chooser that sees the visible call alone takes the
first that passes it; what it takes is scored by the hidden test. Knows pocket's corpus and the engine's protocol.
"""

import argparse
import ast
import json
import shutil
import sys
import tempfile
import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from steergraph.agents.sandbox import Sandbox
from steergraph.configs import InputError, load_config
from steergraph.evals.driving import versions
from steergraph.evals.stats import wilson
from steergraph.evals.writing import need_folder, write_or_print
from steergraph.pocket.behaviour import Call, as_job
from steergraph.pocket.corpus import Sample, Split, draw_repair
from steergraph.vectors.engine.protocol import Engine, Message, Request, Sampling

Edit = Callable[[Sample, str], tuple[list[str], list[str]] | None]
"""From an answer to the shown passage and the function in it after the edit; None where there is none."""
SPLITS: tuple[Split, ...] = ("seen", "names", "phrasings", "families")
_ROOM = 200
_AT_ONCE = 400


class Verdict(BaseModel):
    model_config = ConfigDict(frozen=True)

    well_formed: bool
    exact: bool
    visible: bool
    """The call that the issue may tell of gives what it should."""
    repaired: bool


def parse_block(answer: str) -> tuple[str, list[str], list[str]] | None:
    """Path, old and new lines of an answer that is exactly one edit block; None for anything else."""
    layout = load_config("edit_format")
    lines = answer.strip("\n").split("\n")
    marks = [layout["search"], layout["divider"], layout["replace"]]
    if [line for line in lines if line in marks] != marks or len(lines) < 4:
        return None
    if lines[1] != marks[0] or lines[-1] != marks[2]:
        return None
    divider = lines.index(marks[1])
    return lines[0], lines[2:divider], lines[divider + 1 : -1]


def patched(sample: Sample, answer: str) -> tuple[list[str], list[str]] | None:
    """The shown passage and the function in it after the edit; None where it doesn't apply, or to another function."""
    block = parse_block(answer)
    if block is None or sample.scene is None:
        return None
    path, old, new = block
    scene = sample.scene
    target = scene.passages[scene.target]
    places = [at for at in range(len(target.lines)) if old and list(target.lines[at : at + len(old)]) == old]
    if path != target.path or len(places) != 1 or old == new:
        return None
    passage = [*target.lines[: places[0]], *new, *target.lines[places[0] + len(old) :]]
    end = scene.start + len(scene.piece.lines) + len(new) - len(old)
    return passage, passage[scene.start : end]


def judge(samples: Sequence[Sample], answers: Sequence[str], sandbox: Sandbox, edit: Edit = patched) -> list[Verdict]:
    """What each answer is worth, its edit made by `edit`. Raises SandboxUnavailable where none can be set up."""
    results = [edit(sample, answer) for sample, answer in zip(samples, answers, strict=True)]
    jobs, owners = [], []
    for at, (sample, result) in enumerate(zip(samples, results, strict=True)):
        if result is not None and sample.scene is not None and sample.scene.piece.cases:
            owners.append(at)
            jobs.append(as_job(result[1], sample.scene.piece.record, _calls(sample)))
    played: dict[int, list[bool]] = {}
    for start in range(0, len(jobs), _AT_ONCE):
        verdicts = _play(jobs[start : start + _AT_ONCE], sandbox)
        played.update(zip(owners[start : start + _AT_ONCE], verdicts, strict=True))
    return [
        _verdict(sample, answer, result, played.get(at))
        for at, (sample, answer, result) in enumerate(zip(samples, answers, results, strict=True))
    ]


def _calls(sample: Sample) -> list[Call]:
    """The visible call first, then the hidden ones."""
    assert sample.scene is not None
    cases = sample.scene.piece.cases
    visible = next(at for at, case in enumerate(cases) if case.reveals)
    return [cases[visible].expected, *(case.expected for at, case in enumerate(cases) if at != visible)]


def _verdict(
    sample: Sample, answer: str, result: tuple[list[str], list[str]] | None, played: list[bool] | None
) -> Verdict:
    same = result is not None and sample.scene is not None and _same_code(result[0], sample.scene.fixed)
    return Verdict(
        well_formed=parse_block(answer) is not None,
        exact=answer.strip("\n") == sample.answer,
        visible=played[0] if played else same,
        repaired=all(played[1:]) if played else same,
    )


def _same_code(first: Sequence[str], second: Sequence[str]) -> bool:
    if list(first) == list(second):
        return True
    try:
        trees = [ast.dump(ast.parse(textwrap.dedent("\n".join(lines)))) for lines in (first, second)]
    except (SyntaxError, ValueError):
        return False
    return trees[0] == trees[1]


def _play(jobs: list[dict[str, Any]], sandbox: Sandbox) -> list[list[bool]]:
    """Play the jobs in a sandbox that holds pocket's few modules without dependencies, and nothing else of ours."""
    spec = find_spec("steergraph.pocket")
    assert spec is not None and spec.submodule_search_locations
    source = Path(next(iter(spec.submodule_search_locations)))
    with tempfile.TemporaryDirectory(prefix="steergraph-repairs-") as folder:
        room = Path(folder)
        package = room / "steergraph" / "pocket"
        package.mkdir(parents=True)
        for name in ("behaviour.py", "arguments.py", "vocabulary.py"):
            shutil.copy(source / name, package / name)
        (room / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
        command = "PYTHONPATH=/workspace:. python -m steergraph.pocket.behaviour < jobs.json > verdicts.json"
        done = sandbox.run(command, room, timeout_s=30 + len(jobs) / 4, memory_mb=2048)
        try:
            verdicts: list[list[bool]] = json.loads((room / "verdicts.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            verdicts = []
    if len(verdicts) == len(jobs):
        return verdicts
    if len(jobs) == 1:  # a repair that takes the whole process down repairs nothing
        return [[False] * len(jobs[0]["calls"])]
    if done.killed_reason is None and "Traceback" in done.output and "behaviour" not in done.output:
        raise InputError(f"the hidden tests could not be played: {done.output.strip().splitlines()[-1][:200]}")
    half = len(jobs) // 2
    return _play(jobs[:half], sandbox) + _play(jobs[half:], sandbox)


def fitting(engine: Engine, seed: int, split: Split, notes: bool, n: int) -> list[Sample]:
    """The first `n` repairs of the split whose prompt leaves the model room for an answer."""
    drawn: list[Sample] = []
    index = 0
    while len(drawn) < n:
        sample = draw_repair(seed, index, split, notes)
        messages = [Message.model_validate(message) for message in sample.messages]
        if engine.count_tokens(messages) + _ROOM <= engine.info.window:
            drawn.append(sample)
        index += 1
        if index > 20 * n + 100:
            raise InputError(f"the window of {engine.info.name} ({engine.info.window} tokens) holds too few repairs")
    return drawn


def answers_of(engine: Engine, samples: Sequence[Sample], seed: int | None = None) -> list[str]:
    """What the engine answers to each sample: greedy, or drawn at temperature 0.8 with `seed`."""
    sampling = Sampling(max_new_tokens=_ROOM) if seed is None else Sampling(max_new_tokens=_ROOM, temperature=0.8)
    requests = [
        Request(
            messages=tuple(Message.model_validate(message) for message in sample.messages),
            sampling=sampling,
            seed=0 if seed is None else seed * 100_003 + at,
        )
        for at, sample in enumerate(samples)
    ]
    return [completion.text for completion in engine.generate(requests)]


def measure(engine: Engine, sandbox: Sandbox, n: int, samples: int = 0, seed: int = 777) -> dict[str, Any]:
    """Figures of `n` repairs of each split, without notes and with: shares with their Wilson intervals."""
    command = f"python -m steergraph.evals.repairs --model {engine.info.name} --n {n} --samples {samples} --seed {seed}"
    report: dict[str, Any] = {"model": engine.info.model_dump(), "n": n, "seed": seed, "command": command}
    report |= {"versions": versions(), "splits": {}}
    for split in SPLITS:
        families: dict[str, list[Verdict]] = defaultdict(list)
        report["splits"][split] = {}
        for notes in (False, True):
            drawn = fitting(engine, seed, split, notes, n)
            greedy = judge(drawn, answers_of(engine, drawn), sandbox)
            for sample, verdict in zip(drawn, greedy, strict=True):
                families[sample.family].append(verdict)
            arm = _figures(greedy) | by_function(drawn, greedy)
            if samples:
                arm[f"best_of_{samples}"] = _figures(_best_of(engine, sandbox, drawn, greedy, samples))["repaired"]
            report["splits"][split]["with_notes" if notes else "without_notes"] = arm
            print(f"{split}, notes {'on' if notes else 'off'}: {arm}", file=sys.stderr, flush=True)
        report["splits"][split]["families"] = {name: _figures(families[name]) for name in sorted(families)}
    return report


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
    result: dict[str, Any] = {"n": len(verdicts)}
    for name in ("repaired", "visible", "exact", "well_formed"):
        share = wilson(sum(getattr(verdict, name) for verdict in verdicts), len(verdicts))
        result[name] = [round(value, 4) for value in (share.estimate, share.low, share.high)]
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m steergraph.evals.repairs", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--n", type=int, default=300, help="repairs a split, each without notes and with")
    parser.add_argument("--samples", type=int, default=0, help="answers drawn beside the greedy one")
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--out", type=Path, help="JSON file; the screen where left out")
    given = parser.parse_args(arguments)
    from steergraph.vectors.engine.local import LocalEngine

    try:
        if given.n < 1:
            raise InputError(f"--n {given.n}: at least 1")
        need_folder(given.out)
        sandbox = Sandbox.detect()
        with LocalEngine(given.model) as engine:
            report = measure(engine, sandbox, given.n, given.samples, given.seed)
        text = json.dumps(report, indent=1) + "\n"
        write_or_print(given.out, text)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
