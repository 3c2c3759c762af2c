"""The study's recorded predictions, scored again: its published table, the differences, and how many really apply.

Knows the files of the study this project grew from (swebench_evaluation_results.json, swebench_predictions_*.jsonl) and
the layout of its table. Needs no model; repositories and a dataset only for what hangs on them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from steergraph.agents.instances import need_prediction
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.base.text import markdown_table
from steergraph.evals.reports.measure import Trees
from steergraph.evals.reports.patch_metrics import look
from steergraph.evals.reports.read import prediction_rows
from steergraph.evals.swebench.datasets import load_dataset
from steergraph.evals.swebench.repos import Repos

RESULTS = "swebench_evaluation_results.json"
PREDICTIONS = "swebench_predictions_{}.jsonl"
_AGAIN = ("recomputed", "difference")
_AT_HAND = (
    "variant", "paths valid, published", "at hand", "recomputed there", "so elsewhere", "git reads it",
    "with a newline added", "applies, of those at hand",
)  # fmt: skip
_IN_PROSE = {"baseline": 75.0, "static": 70.0, "dynamic": 75.0}
"""Published in the study's PLAN.md alone: the results file has the three variants with retrieval."""


class StudyScores(Frozen):
    """The scores of the study's `score_patch`, by its own definitions. They never ask whether the patch applies."""

    valid: bool
    """Something is there: the study's "valid diff"."""
    structural: float = 0.0
    """Of `diff --git`, `---`, `+++` and `@@`, the share that begins some line."""
    paths: float | None = 0.0
    """Of the paths behind `--- a/` and `+++ b/`, the share that exists; None where no repository was looked at."""
    content: float = 0.0
    """From the share of changed lines in the body: 1.5 times it, at most 1; 0.1 below 5 %, 0.5 above 90 %."""
    coherence: float = 0.0
    """1 where lines are added and removed, 0.7 for added only, 0.3 for removed only."""

    @property
    def quality(self) -> float:
        """0.25 structural + 0.35 paths + 0.20 content + 0.20 coherence; unknown paths count 0.5."""
        if not self.valid:
            return 0.0
        paths = 0.5 if self.paths is None else self.paths
        return round(0.25 * self.structural + 0.35 * paths + 0.20 * self.content + 0.20 * self.coherence, 3)


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


def study_scores(patch: str, exists: Callable[[str], bool] | None = None) -> StudyScores:
    """The study's scores of a patch. `exists` says whether a path, file or folder, is in the repository."""
    if not patch.strip():
        return StudyScores(valid=False)
    lines = patch.split("\n")
    heads = sum(any(line.startswith(head) for line in lines) for head in ("diff --git", "--- ", "+++ ", "@@ "))
    paths = None
    if exists is not None:
        named = study_paths(patch)
        paths = sum(map(exists, named)) / len(named) if named else 0.0
    added = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    removed = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    body = added + removed + sum(line.startswith(" ") for line in lines)
    share = (added + removed) / body if body else 0.0
    if not body:
        content = 0.0
    elif share < 0.05:
        content = 0.1
    else:
        content = 0.5 if share > 0.9 else min(1.0, share * 1.5)
    coherence = {(True, True): 1.0, (True, False): 0.7, (False, True): 0.3}.get((added > 0, removed > 0), 0.0)
    return StudyScores(valid=True, structural=heads / 4, paths=paths, content=content, coherence=coherence)


def study_paths(patch: str) -> set[str]:
    """The paths that the study looks for: what follows `--- a/` and `+++ b/`."""
    return {
        line[6:]
        for line in patch.split("\n")
        if line.startswith(("--- a/", "+++ b/")) and line[6:] not in ("", "/dev/null")
    }


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
    trees = Trees(Repos(repos) if repos and dataset else None, rows, clone=False)
    names = [name for name in (*_IN_PROSE, *published) if (folder / PREDICTIONS.format(name)).is_file()]
    if not names:
        raise InputError(f"{folder}: no {PREDICTIONS.format('VARIANT')} in it")
    return [_variant(name, folder / PREDICTIONS.format(name), published.get(name, {}), trees) for name in names]


def study_markdown(variants: Sequence[StudyVariant]) -> str:
    """The tables, published beside recomputed."""
    heads = ["variant", "n", "valid, published", *_AGAIN, "quality, published", *_AGAIN]
    scores = [
        [
            each.name,
            str(each.total),
            _number(each.published_valid_pct, ".0f", " %"),
            f"{each.valid_pct:.0f} %",
            _number(_less(each.valid_pct, each.published_valid_pct), "+.1f"),
            _number(each.published_quality, ".3f"),
            _number(each.quality, ".3f"),
            _number(_less(each.quality, each.published_quality), "+.3f"),
        ]
        for each in variants
    ]
    at_hand = [
        [
            each.name,
            _share(each.published_paths),
            f"{each.at_hand} of {each.valid}",
            _share(each.paths_at_hand),
            _share(each.paths_elsewhere),
            f"{each.readable} of {each.total}",
            f"{each.readable_newline} of {each.total}",
            f"{each.applied} of {each.at_hand}" if each.at_hand else "-",
        ]
        for each in variants
    ]
    return f"{markdown_table(heads, scores, 1)}\n\n{markdown_table(_AT_HAND, at_hand, 1)}\n"


def run_study(folder: Path, dataset: str | None, repos: str | None) -> int:
    """Print the tables. Returns 0."""
    print(study_markdown(study_variants(folder, dataset, repos)), end="")
    print(
        '\nA "valid" patch of the study is one that is not empty. Quality is recomputed with the published path '
        "validity;\nevery other part comes from the patches. `git apply` was tried where the repository is at hand."
    )
    return 0


def _variant(name: str, path: Path, published: Mapping[str, Any], trees: Trees) -> StudyVariant:
    scores: list[StudyScores] = []
    at_hand: list[float] = []
    readable = newline = applied = 0
    notes: list[str] = []
    rows: list[tuple[str, str]] = []
    for place, row in prediction_rows(path, notes):
        need_prediction(row, place)
        rows.append((row["instance_id"], str(row["model_patch"] or "")))
    if notes:
        raise InputError(notes[0])
    for instance_id, patch in rows:
        tree = trees.of(instance_id, []) if patch.strip() else None
        scores.append(study_scores(patch))
        readable += look(patch).readable
        ended = patch + "\n"
        newline += look(ended).readable
        if tree:
            places = tree.paths | {str(parent) for file in tree.paths for parent in PurePosixPath(file).parents}
            at_hand.append(study_scores(patch, places.__contains__).paths or 0.0)
            applied += bool(look(ended, tree.named(ended)).applies)
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
        found = json.loads(path.read_text(encoding="utf-8-sig"))["variants"]
        return {str(name): dict(values) for name, values in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the study's results: {type(error).__name__}: {str(error)[:100]}") from error


def _number(value: float | None, spec: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{spec}}{unit}"


def _share(value: float | None) -> str:
    return _number(None if value is None else 100 * value, ".0f", " %")


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else round(one - other, 3) + 0.0  # no -0.000
