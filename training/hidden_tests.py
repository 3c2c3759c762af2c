"""Whether an edit repairs a generated defect: the hidden test of a sample of pocket's corpus, played in the sandbox.

A sample's calls are its test: the visible one, which the issue may tell of, and hidden ones. An answer has repaired the
function where every hidden call gives what the right code gives. Knows pocket's corpus. Knows nothing of engines.
"""

import ast
import json
import shutil
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.configs import load_config
from steergraph.sandbox.run import Sandbox
from training.corpus import behaviour
from training.corpus.behaviour import Case, as_job
from training.corpus.issues import tellable
from training.corpus.samples import Sample
from training.corpus.scenes import Scene

_AT_ONCE = 400


class Played(NamedTuple):
    """What came of the calls of one edit; of a function that is not called, whether it is the right code."""

    visible: bool
    """The call that the issue may tell of gives what it should."""
    repaired: bool


class Verdict(Frozen):
    """What an answer is worth."""

    well_formed: bool
    exact: bool
    visible: bool
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


def patched(sample: Sample, answer: str) -> list[str] | None:
    """The shown passage after the edit; None where it doesn't apply, or to another file."""
    block = parse_block(answer)
    if block is None or sample.scene is None:
        return None
    path, old, new = block
    target = sample.scene.passages[sample.scene.target]
    places = [at for at in range(len(target.lines)) if old and list(target.lines[at : at + len(old)]) == old]
    if path != target.path or len(places) != 1 or old == new:
        return None
    return [*target.lines[: places[0]], *new, *target.lines[places[0] + len(old) :]]


def judge(samples: Sequence[Sample], answers: Sequence[str], sandbox: Sandbox) -> list[Verdict]:
    """What each answer is worth. Raises SandboxUnavailable where none can be set up."""
    passages = [patched(sample, answer) for sample, answer in zip(samples, answers, strict=True)]
    return [
        Verdict(
            well_formed=parse_block(answer) is not None,
            exact=answer.strip("\n") == sample.answer,
            visible=played.visible,
            repaired=played.repaired,
        )
        for sample, answer, played in zip(samples, answers, play(samples, passages, sandbox), strict=True)
    ]


def play(samples: Sequence[Sample], passages: Sequence[list[str] | None], sandbox: Sandbox) -> list[Played]:
    """Play the calls of each sample on its function as it stands in the edited passage; None, no edit, fails.

    Raises SandboxUnavailable where no sandbox can be set up.
    """
    jobs = {
        at: as_job(edited_function(sample.scene, passage), sample.scene.piece.record, [c.expected for c in calls])
        for at, (sample, passage) in enumerate(zip(samples, passages, strict=True))
        if passage is not None and sample.scene is not None and (calls := cases_of(sample))
    }
    passed: list[list[bool]] = []
    for start in range(0, len(jobs), _AT_ONCE):
        passed += _play(list(jobs.values())[start : start + _AT_ONCE], sandbox)
    played = {at: Played(one[0], all(one[1:])) for at, one in zip(jobs, passed, strict=True)}
    for at, (sample, passage) in enumerate(zip(samples, passages, strict=True)):
        same = passage is not None and sample.scene is not None and _same_code(passage, sample.scene.fixed)
        played.setdefault(at, Played(same, same))
    return [played[at] for at in range(len(samples))]


def edited_function(scene: Scene, passage: Sequence[str]) -> list[str]:
    """The lines of the scene's function in its passage after an edit there."""
    added = len(passage) - len(scene.passages[scene.target].lines)
    return list(passage[scene.start : scene.start + len(scene.piece.lines) + added])


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
