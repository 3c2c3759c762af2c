"""Generated issues with the files they are about: what the graph's steps are compared on.

Half of the cases have words and functions that training never has. An issue ends with the line it is about, quoted with
its path, so that it can be repaired without retrieved context too; for retrieval it is asked without that. Knows
pocket's generators. Knows nothing of arms.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from steergraph.configs.prompts import format_passage
from steergraph.sandbox.run import Sandbox
from training.corpus.issues import draw_issue
from training.corpus.samples import Sample
from training.corpus.scenes import Scene, draw_scene
from training.corpus.speech import say_patch, wrong_lines
from training.corpus.vocabulary import HELD_OUT, TRAIN
from training.hidden_tests import play


@dataclass(frozen=True)
class GeneratedIssue:
    """The lab's IssueCase, of one scene of the corpus."""

    number: int
    kind: str
    """"seen", or "new": with held-out words and functions."""
    issue: str
    quoted: str
    scene: Scene

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.number}"

    @property
    def sample(self) -> Sample:
        """The repair, as pocket's own measurements judge it."""
        return Sample("patch_writing", self.scene.defect.family, (), say_patch(self.scene), self.scene)

    @property
    def files(self) -> dict[str, str]:
        return {one.path: "\n".join(one.lines) + "\n" for one in self.scene.passages}

    @property
    def target(self) -> str:
        return self.scene.passages[self.scene.target].path

    @property
    def function(self) -> str:
        return self.scene.defect.function

    @property
    def passages(self) -> list[dict[str, str]]:
        return [{"text": format_passage(one.path, one.first_line, one.lines)} for one in self.scene.passages]


def draw_cases(seed: int, n: int) -> list[GeneratedIssue]:
    """The first `n` cases of a seed: every other one with held-out words, and functions."""
    return [_case(seed, index) for index in range(n)]


def _case(seed: int, index: int) -> GeneratedIssue:
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
    return GeneratedIssue(index, "new" if new else "seen", issue, quoted, scene)


def repaired(cases: Sequence[GeneratedIssue], texts: Sequence[str | None], sandbox: Sandbox) -> list[bool]:
    """Whether each case's function passes its hidden test in the text of its file; None, no text, does not."""
    passages = [None if text is None else text.removesuffix("\n").split("\n") for text in texts]
    return [played.repaired for played in play([case.sample for case in cases], passages, sandbox)]
