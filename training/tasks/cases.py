"""Generated issues with the files they are about: what the graph's steps are compared on.

Half of the cases have words and functions that training never has. An issue ends with the line it is about, quoted with
its path, so that it can be repaired without retrieved context too; for retrieval it is asked without that. Knows
pocket's generators, git and the graph's own way of applying edits. Knows nothing of arms.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from git import Actor, Repo

from steergraph.agents.edits.blocks import parse_edits
from steergraph.agents.edits.patch import apply_edits
from steergraph.configs.prompts import format_passage
from training.corpus.issues import draw_issue
from training.corpus.samples import Sample
from training.corpus.scenes import Scene, draw_scene
from training.corpus.speech import say_patch, wrong_lines
from training.corpus.vocabulary import HELD_OUT, TRAIN

_WHEN = "2020-01-01T00:00:00+0000"


@dataclass(frozen=True)
class Case:
    id: str
    issue: str
    quoted: str
    """The issue with the line it is about."""
    scene: Scene

    @property
    def sample(self) -> Sample:
        """The repair, as pocket's own measurements judge it."""
        return Sample("patch_writing", self.scene.defect.family, (), say_patch(self.scene), self.scene)

    @property
    def passages(self) -> list[dict[str, str]]:
        """The scene's passages as retrieval would hand them to a prompt."""
        return [{"text": format_passage(one.path, one.first_line, one.lines)} for one in self.scene.passages]


def draw_cases(seed: int, n: int) -> list[Case]:
    """The first `n` cases of a seed: every other one with held-out words, and functions."""
    return [_case(seed, index) for index in range(n)]


def _case(seed: int, index: int) -> Case:
    rng = random.Random(f"{seed}/case/{index}")
    words, new = (HELD_OUT, True) if index % 2 else (TRAIN, False)
    while True:
        scene = draw_scene(rng, words, size=rng.choice((1, 2)), held_out_shapes=new, split=False)
        target = scene.passages[scene.target]
        start, end, _, _ = wrong_lines(scene)
        one_each = len({one.path for one in scene.passages}) == len(scene.passages)
        if scene.piece.cases and start < end and one_each:
            break
    issue = draw_issue(rng, scene, words)
    quoted = f"{issue}\nIt is in {target.path}: `{target.lines[start].strip()}`"
    return Case(f"{'new' if new else 'seen'}/{index}", issue, quoted, scene)


def edited(sample: Sample, answer: str) -> tuple[list[str], list[str]] | None:
    """The shown passage and its function after the answer's edits, made as the graph makes them; None where they can't
    be, or change another file."""
    assert sample.scene is not None
    scene = sample.scene
    target = scene.passages[scene.target]
    files = {one.path: "\n".join(one.lines) + "\n" for one in scene.passages}
    parsed = parse_edits(answer)
    if not parsed.edits or parsed.problems:
        return None
    applied = apply_edits(parsed.edits, files.get)
    text = applied.after.get(target.path)
    if applied.problems or set(applied.after) != {target.path} or text is None:
        return None
    lines = text.removesuffix("\n").split("\n")
    end = scene.start + len(scene.piece.lines) + len(lines) - len(target.lines)
    return lines, lines[scene.start : end]


def write_repository(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """All cases' files in one git repository of one commit in the empty `folder`; each case's target path by id.

    Each case has a folder of its own there, so that no two files have one path. The same cases give the same commit.
    No hook is run.
    """
    targets = {}
    for number, case in enumerate(cases):
        for at, passage in enumerate(case.scene.passages):
            path = f"part_{number:03d}/{passage.path}"
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(passage.lines) + "\n", encoding="utf-8")
            if at == case.scene.target:
                targets[case.id] = path
    with Repo.init(folder, initial_branch="main") as repository:
        repository.git.add("--all", "--force")
        author = Actor("steergraph", "steergraph@example.invalid")
        repository.index.commit(
            "cases", author=author, committer=author, author_date=_WHEN, commit_date=_WHEN, skip_hooks=True
        )
    return targets
