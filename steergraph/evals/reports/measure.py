"""One prediction measured for a report: patch, verdict, files found, tokens, and which rules steered it.

Knows gold, which is looked at here and nowhere before: the run is over. Runs no test. None is "not known", and what is
not known counts in no share.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from steergraph.agents.state import PATCHED
from steergraph.base.errors import InputError, one_line
from steergraph.base.records import Frozen
from steergraph.evals.grading.verdict import Kind
from steergraph.evals.patches import named_paths, touched_lines
from steergraph.evals.reports.grades import Graded, Grades
from steergraph.evals.reports.patch_metrics import PatchLook, look
from steergraph.evals.reports.read import Entry
from steergraph.evals.reports.samples import Sample, read_samples
from steergraph.evals.retrieval.gold import gold_patches
from steergraph.evals.swebench.datasets import load_dataset
from steergraph.evals.swebench.repos import Repos
from steergraph.repo.repository import Repository

_RESOLVED: dict[str, bool] = {
    "resolved": True,
    **dict.fromkeys(("unresolved", "not_applied", "stopped", "empty"), False),
}
_APPLIED: dict[str, bool] = {**dict.fromkeys(("resolved", "unresolved", "stopped"), True), "not_applied": False}


class Facts(Frozen):
    """What a report says of one instance of one variant."""

    instance_id: str
    status: str
    patch: str
    look: PatchLook
    graded: Graded | None
    is_gold: bool
    resolved: bool | None
    """None: ungraded, which is not unresolved."""
    applies: bool | None
    in_context: bool | None
    """A file that gold changes is among the passages that were shown. None without gold, or without retrieval."""
    edited: bool | None
    """The patch changes a file that gold changes. None without gold."""
    tokens: int | None
    seconds: float | None
    truncated: int | None
    rules: dict[tuple[str, str], int]
    """Steps by (rule, mode), over all samples."""

    @property
    def verdict(self) -> Kind | None:
        return self.graded.verdict.verdict if self.graded else None

    @property
    def said(self) -> str:
        """What came of it: the verdict, or how it ended where there is none."""
        return self.verdict or self.status

    @property
    def found(self) -> bool | None:
        """The right file was in the context, or is edited."""
        return None if self.edited is None else bool(self.in_context) or self.edited


class Tree(NamedTuple):
    """A repository at the commit that an instance starts at."""

    repository: Repository
    sha: str
    paths: set[str]
    """Of its files."""

    def named(self, *patches: str) -> dict[str, bytes | None]:
        """The files that patches name, None for one that is not there."""
        paths = named_paths(*patches)
        return {path: self.repository.read_bytes(self.sha, path) if path in self.paths else None for path in paths}


class Trees:
    """The instances' base commits, where their repositories are at hand. What is at a URL is cloned, or not there."""

    def __init__(self, repos: Repos | None, rows: Mapping[str, Mapping[str, str]], *, clone: bool = True) -> None:
        self._repos, self._rows, self._clone = repos, rows, clone
        self._opened: dict[str, Repository | None] = {}

    def of(self, instance_id: str, notes: list[str]) -> Tree | None:
        """None where the repository is not there; that is noted, once for a repository. Raises InputError where it
        can't be opened, or lacks the commit."""
        row = self._rows.get(instance_id)
        if self._repos is None or row is None:
            return None
        if row["repo"] not in self._opened:
            self._opened[row["repo"]] = None
            place = self._repos.of(row["repo"])
            if place is None:
                notes.append(f"{row['repo']}: no repository in {self._repos.shown}: its patches are not applied")
            elif self._clone or "://" not in place:
                self._opened[row["repo"]] = Repository.open(place)
        if (repository := self._opened[row["repo"]]) is None:
            return None
        sha = repository.resolve(row["base_commit"] or None)
        return Tree(repository, sha, {file.path for file in repository.files(sha)})


class Measure:
    """Measures entries against what is at hand: a dataset with gold, repositories, grading logs."""

    def __init__(self, dataset: str | None = None, repos: str | None = None, grades: Grades | None = None) -> None:
        """Raises InputError where the dataset has no gold, or something is not there."""
        self.gold: dict[str, str] = {}
        self.rows: dict[str, Mapping[str, str]] = {}
        self.grades = grades
        if dataset is not None:
            if not Path(dataset).is_file():
                raise InputError(f"--dataset {dataset}: no such file: a report needs one with the gold patches")
            self.rows = {row["instance_id"]: row for row in load_dataset(dataset).rows}
            # What is no diff says nothing of files and lines, whatever stands in the column.
            self.gold = {name: text for name, text in gold_patches(dataset).items() if touched_lines(text)}
        elif repos is not None:
            raise InputError("--repos: give --dataset too, which says at which commit an instance starts")
        self._trees = Trees(Repos(repos) if repos else None, self.rows)

    def of(self, entry: Entry, notes: list[str]) -> Facts:
        """Measure one entry. Its samples are read for it, and let go."""
        samples = read_samples(entry, notes)
        gold = self.gold.get(entry.instance_id)
        found = look(entry.patch, self._base(entry, gold, notes), gold)
        graded = self.grades.of(entry.model, entry.instance_id, entry.patch) if self.grades else None
        is_gold = bool(graded and graded.verdict.is_gold)
        is_gold = is_gold or bool(gold and entry.patch.strip() and entry.patch.strip() == gold.strip())
        verdict = graded.verdict.verdict if graded else None
        resolved = _RESOLVED.get(verdict) if verdict else None
        if graded is None and self.grades and found.empty:
            resolved = False  # the harness runs nothing for it either
        return Facts(
            instance_id=entry.instance_id,
            status=entry.status,
            patch=entry.patch,
            look=found,
            graded=graded,
            is_gold=is_gold,
            resolved=resolved,
            applies=_applies(entry, found, verdict),
            in_context=_in_context(samples, entry, gold),
            edited=None if gold is None else bool(found.files and found.files.both),
            tokens=entry.tokens,
            seconds=entry.seconds,
            truncated=entry.truncated,
            rules=dict(Counter((step.decision.rule, step.decision.mode) for s in samples for step in s.steps)),
        )

    def _base(self, entry: Entry, gold: str | None, notes: list[str]) -> dict[str, bytes | None] | None:
        """The files that both patches name at the base commit; None where the repository is not at hand."""
        try:
            tree = self._trees.of(entry.instance_id, notes) if entry.patch.strip() else None
            return tree.named(entry.patch, gold or "") if tree else None
        except InputError as error:
            notes.append(f"{entry.instance_id}: {one_line(str(error), 200)}")
            return None


def chosen(samples: list[Sample], entry: Entry) -> Sample | None:
    """The sample whose patch it is; without one the first."""
    return next((each for each in samples if each.number == entry.chosen), samples[0] if samples else None)


def _applies(entry: Entry, found: PatchLook, verdict: str | None) -> bool | None:
    if found.empty:
        return False
    if found.applies is not None:
        return found.applies
    if verdict in _APPLIED:
        return _APPLIED[verdict]
    return True if entry.status in PATCHED else None  # it was applied when it was made


def _in_context(samples: list[Sample], entry: Entry, gold: str | None) -> bool | None:
    sample = chosen(samples, entry)
    if gold is None or sample is None or sample.retrieved is None:
        return None
    shown = {passage["path"] for passage in sample.retrieved["passages"]}
    return bool(shown & touched_lines(gold).keys())
