"""Whether an edit repairs a generated defect: the hidden test of a sample of pocket's corpus, played in the sandbox.

A sample's calls are its test: the visible one, which the issue may tell of, and hidden ones. An answer has repaired the
function where every hidden call gives what the right code gives. Knows pocket's corpus. Knows nothing of engines.
"""

import ast
import json
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from steergraph.base.errors import InputError
from steergraph.configs import load_config
from steergraph.sandbox.run import Sandbox
from training.corpus import behaviour
from training.corpus.behaviour import Case, as_job
from training.corpus.issues import tellable
from training.corpus.samples import Sample

Edit = Callable[[Sample, str], tuple[list[str], list[str]] | None]
"""From an answer to the shown passage and the function in it after the edit; None where there is none."""
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
            calls = [case.expected for case in cases_of(sample)]
            jobs.append(as_job(result[1], sample.scene.piece.record, calls))
    played: dict[int, list[bool]] = {}
    for start in range(0, len(jobs), _AT_ONCE):
        verdicts = _play(jobs[start : start + _AT_ONCE], sandbox)
        played.update(zip(owners[start : start + _AT_ONCE], verdicts, strict=True))
    return [
        _verdict(sample, answer, result, played.get(at))
        for at, (sample, answer, result) in enumerate(zip(samples, answers, results, strict=True))
    ]


def can_be_judged(sample: Sample) -> bool:
    """Whether a hidden call shows the defect that is not the visible one."""
    return any(case.reveals for case in cases_of(sample)[1:])


def cases_of(sample: Sample) -> list[Case]:
    """The visible call first, then the hidden ones, each once. Visible is the one that the issue may tell of, or where
    none can be told, the first that shows the defect."""
    if sample.scene is None or not sample.scene.piece.cases:
        return []
    cases = sample.scene.piece.cases
    visible = tellable(sample.scene) or next(case for case in cases if case.reveals)
    found: dict[tuple[tuple[str, ...], str], Case] = {}
    for case in (visible, *cases):
        found.setdefault((case.expected.before, case.expected.text), case)
    return list(found.values())


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
    """Play the jobs in a sandbox that holds the corpus' few modules without dependencies, and nothing else of ours."""
    source = Path(str(behaviour.__file__)).parent
    with tempfile.TemporaryDirectory(prefix="steergraph-repairs-") as folder:
        room = Path(folder)
        package = room / "training" / "corpus"
        package.mkdir(parents=True)
        for name in ("behaviour.py", "arguments.py", "vocabulary.py"):
            shutil.copy(source / name, package / name)
        (room / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
        command = "PYTHONPATH=/workspace:. python -m training.corpus.behaviour < jobs.json > verdicts.json"
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
