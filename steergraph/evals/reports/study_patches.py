"""The study's recorded predictions, scored again: its published table, the differences, and how many really apply.

Knows the files of the study this project grew from (swebench_evaluation_results.json, swebench_predictions_*.jsonl) and
the layout of its table. Needs no model; repositories and a dataset only for what hangs on them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.evals.reports.patch_metrics import StudyScores, look, named_paths, study_scores
from steergraph.evals.swebench.datasets import load_dataset
from steergraph.evals.swebench.repos import Repos
from steergraph.repo.repository import Repository

RESULTS = "swebench_evaluation_results.json"
PREDICTIONS = "swebench_predictions_{}.jsonl"
_IN_PROSE = {"baseline": 75.0, "static": 70.0, "dynamic": 75.0}
"""Published in the study's PLAN.md alone: the results file has the three variants with retrieval."""


class StudyVariant(Frozen):
    """One variant of the study, published and recomputed. None: not published, or not to be had here."""

    name: str
    total: int
    valid: int
    published_valid_pct: float | None = None
    published_paths: float | None = None
    """Mean path validity over all valid predictions."""
    published_quality: float | None = None
    quality: float | None = None
    """Recomputed mean; its path validity is the published one, everything else is from the patches."""
    at_hand: int = 0
    """Valid predictions whose repository is at hand."""
    paths_at_hand: float | None = None
    """Their mean path validity, recomputed."""
    readable: int = 0
    """Predictions that git reads as a patch at all, of all."""
    readable_newline: int = 0
    """The same with a newline added at the end, which the way they were taken out of the answers has removed."""
    applied: int = 0
    """Predictions at hand that `git apply` takes, with the newline added."""

    @property
    def valid_pct(self) -> float:
        return 100 * self.valid / self.total if self.total else 0.0

    @property
    def paths_elsewhere(self) -> float | None:
        """What the predictions not at hand must average for the published path validity to be right."""
        rest = self.valid - self.at_hand
        if self.published_paths is None or self.paths_at_hand is None or not rest:
            return None
        return (self.published_paths * self.valid - self.paths_at_hand * self.at_hand) / rest


def study_variants(folder: Path, dataset: str | None = None, repos: str | None = None) -> list[StudyVariant]:
    """Score the study's recorded predictions in `folder`.

    Args:
        folder: with the study's results file and predictions.
        dataset: has the instances' base commits; without it no path is looked for and nothing is applied.
        repos: clones and bundles, as for `steergraph eval`. A repository that is not there is not cloned.

    Raises InputError where a file is missing, damaged, or another's.
    """
    published = _published(folder / RESULTS)
    rows = {row["instance_id"]: row for row in load_dataset(dataset).rows} if dataset else {}
    trees = _Trees(Repos(repos) if repos and dataset else None, rows)
    names = [name for name in (*_IN_PROSE, *published) if (folder / PREDICTIONS.format(name)).is_file()]
    if not names:
        raise InputError(f"{folder}: no {PREDICTIONS.format('VARIANT')} in it")
    return [_variant(name, folder / PREDICTIONS.format(name), published.get(name, {}), trees) for name in names]


def study_markdown(variants: Sequence[StudyVariant]) -> str:
    """The tables, published beside recomputed."""
    lines = [
        "| variant | n | valid, published | recomputed | difference | quality, published | recomputed | difference |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each in variants:
        given = each.published_valid_pct
        lines.append(
            f"| {each.name} | {each.total} | {_number(given, '.0f', ' %')} | {each.valid_pct:.0f} % "
            f"| {_number(None if given is None else each.valid_pct - given, '+.1f')} "
            f"| {_number(each.published_quality, '.3f')} | {_number(each.quality, '.3f')} "
            f"| {_number(_less(each.quality, each.published_quality), '+.3f')} |"
        )
    lines += [
        "",
        "| variant | paths valid, published | at hand | recomputed there | so elsewhere "
        "| git reads it | with a newline added | applies, of those at hand |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each in variants:
        applied = f"{each.applied} of {each.at_hand}" if each.at_hand else "-"
        lines.append(
            f"| {each.name} | {_share(each.published_paths)} | {each.at_hand} of {each.valid} "
            f"| {_share(each.paths_at_hand)} | {_share(each.paths_elsewhere)} | {each.readable} of {each.total} "
            f"| {each.readable_newline} of {each.total} | {applied} |"
        )
    return "\n".join(lines) + "\n"


def run_study(folder: Path, dataset: str | None, repos: str | None) -> int:
    """Print the tables. Returns 0."""
    print(study_markdown(study_variants(folder, dataset, repos)), end="")
    print(
        '\nA "valid" patch of the study is one that is not empty. Quality is recomputed with the published path '
        "validity;\nevery other part comes from the patches. `git apply` was tried where the repository is at hand."
    )
    return 0


class _Trees:
    """Files of the instances' base commits, where their repositories are at hand."""

    def __init__(self, repos: Repos | None, rows: Mapping[str, Mapping[str, str]]) -> None:
        self._repos, self._rows = repos, rows
        self._opened: dict[str, Repository | None] = {}

    def of(self, instance_id: str) -> tuple[Repository, str] | None:
        row = self._rows.get(instance_id)
        if self._repos is None or row is None:
            return None
        if row["repo"] not in self._opened:
            place = self._repos.of(row["repo"])
            self._opened[row["repo"]] = Repository.open(place) if place and "://" not in place else None
        repository = self._opened[row["repo"]]
        return (repository, row["base_commit"]) if repository else None


def _variant(name: str, path: Path, published: Mapping[str, Any], trees: _Trees) -> StudyVariant:
    scores: list[StudyScores] = []
    at_hand: list[float] = []
    readable = newline = applied = 0
    rows = _rows(path)
    for row in rows:
        patch = row["model_patch"]
        where = trees.of(row["instance_id"]) if patch.strip() else None
        scores.append(study_scores(patch))
        readable += look(patch).readable
        ended = patch + "\n"
        newline += look(ended).readable
        if where:
            repository, commit = where
            files = {entry.path for entry in repository.files(repository.resolve(commit))}
            files |= {str(parent) for file in files for parent in PurePosixPath(file).parents}
            at_hand.append(study_scores(patch, files.__contains__).paths or 0.0)
            base = {file: repository.read_bytes(commit, file) for file in named_paths(ended) if file in files}
            applied += bool(look(ended, base).applies)
    valid = [score for score in scores if score.valid]
    paths = published.get("avg_path_validity")
    quality = None
    if paths is not None and valid:
        own = sum(0.25 * s.structural + 0.20 * s.content + 0.20 * s.coherence for s in valid) / len(valid)
        quality = own + 0.35 * paths
    return StudyVariant(
        name=name,
        total=len(rows),
        valid=len(valid),
        published_valid_pct=published.get("valid_pct", _IN_PROSE.get(name)),
        published_paths=paths,
        published_quality=published.get("avg_quality_score"),
        quality=quality,
        at_hand=len(at_hand),
        paths_at_hand=sum(at_hand) / len(at_hand) if at_hand else None,
        readable=readable,
        readable_newline=newline,
        applied=applied,
    )


def _published(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["variants"]
        return {str(name): dict(values) for name, values in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the study's results: {type(error).__name__}: {str(error)[:100]}") from error


def _rows(path: Path) -> list[dict[str, str]]:
    rows = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {str(error)[:100]}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({"instance_id": str(row["instance_id"]), "model_patch": str(row["model_patch"] or "")})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} line {number}: cut off, or no prediction") from error
    return rows


def _number(value: float | None, spec: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{spec}}{unit}"


def _share(value: float | None) -> str:
    return _number(None if value is None else 100 * value, ".0f", " %")


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else round(one - other, 3) + 0.0  # no -0.000
