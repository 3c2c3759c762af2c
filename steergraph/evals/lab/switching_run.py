"""The whole of the switching study: arms on generated issues, suspects as a help to retrieval, the example issues.

Knows how these parts of the lab go together, and how their tables look. Every step but the example issues resumes.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import Field, model_validator

from steergraph.agents.router import rules
from steergraph.agents.services import Services
from steergraph.agents.specialists import RETRIEVE
from steergraph.base.files import write_whole
from steergraph.base.records import Frozen
from steergraph.configs import load_validated
from steergraph.engine.loading.weight_types import for_evidence
from steergraph.engine.local import LocalEngine
from steergraph.evals.example_issues import Resolved, load_examples, run_examples
from steergraph.evals.lab.experiment import Answer, manifest, run
from steergraph.evals.lab.published import in_words, markdown_table
from steergraph.evals.lab.suspects import ALONE, PRESETS, Suspects, write_repository
from steergraph.evals.lab.switching import WITH, WITHOUT, Switching
from steergraph.evals.lab.tasks import SwitchingTasks
from steergraph.evals.stats import Comparison, compare, corrected, wilson
from steergraph.repo.repository import Repository
from steergraph.retrieval.retriever import BM25Retriever
from steergraph.sandbox.run import Sandbox

_BATCH = 64
Say = Callable[[str], None]


class SwitchingSettings(Frozen):
    """configs/experiments/switching.yaml, validated."""

    seed: int
    cases: int = Field(ge=2)
    comparisons: tuple[tuple[str, str], ...]
    """(arm, the arm that it is held against)"""

    @classmethod
    def load(cls, path: str | Path | None = None) -> "SwitchingSettings":
        """The packaged settings with the keys of a user's file in their place. Raises ConfigError."""
        return load_validated(cls, "experiments/switching", path)

    @model_validator(mode="after")
    def _known(self) -> "SwitchingSettings":
        for name in {name for pair in self.comparisons for name in pair} - {*WITHOUT, *WITH}:
            raise ValueError(f"{name!r} is none of {', '.join((*WITHOUT, *WITH))}")
        return self


def run_switching(
    model: str,
    settings: SwitchingSettings,
    tasks: SwitchingTasks,
    out: Path,
    command: str,
    say: Say,
    *,
    examples: Path | None = None,
) -> str:
    """Run what is missing in `out` and write `out`/switching.json and switching.md. Returns the latter's text.

    `examples` is the folder of example issues; without one they are left out. Raises InputError.
    """
    sandbox = Sandbox.detect()
    if examples is not None:
        load_examples(examples)  # a wrong folder is said now, not after the long part
    cases = tasks.cases(settings.seed, settings.cases)
    kinds = {case.id: case.kind for case in cases}

    def progress(what: str) -> Callable[[int, int], None]:
        return lambda done, of: say(f"{what}: {done} of {of}")

    with (
        LocalEngine(model, max_batch=_BATCH, weights=for_evidence()) as engine,
        tempfile.TemporaryDirectory(prefix="steergraph-") as folder,
    ):
        services = _services(engine)
        names = {name for plan in services.roster.plans.values() for name in plan if name not in (RETRIEVE, "DOMAIN")}
        services.ensure_vectors(sorted({services.roster[name].domain for name in names}))
        switching = Switching(tasks, cases, services, sandbox, settings.seed)
        rows = run(switching, engine, out / "switching", command=command, report=progress("switching"))
        targets = write_repository(cases, Path(folder))
        with Repository.open(folder) as repository:
            asked = Suspects(cases, targets, repository, BM25Retriever(), services, settings.seed)
            ranks = run(asked, engine, out / "suspects", command=command, report=progress("suspects"))
        resolved: dict[str, list[Resolved]] = {}
        for preset in (*WITHOUT, *WITH) if examples else ():
            say(f"example issues: {preset}")
            assert examples is not None
            resolved[preset] = run_examples(engine, examples, preset=preset, max_repairs=0, say=say)
        made = manifest(switching, engine, command)
    result = {
        **made,
        "arms": _arms(rows, (*WITHOUT, *WITH), ("repaired", "applies", "suspect", "steered_steps", "refused"), kinds),
        "comparisons": _compared(rows, settings.comparisons, "repaired"),
        "suspects": _arms(ranks, (ALONE, *PRESETS), ("first", "in_five", "right_name", "names"), kinds),
        "suspects_comparisons": _compared(
            ranks,
            [*((arm, ALONE) for arm in PRESETS), ("dynamic suspects", "unsteered suspects")],
            "first",
        ),
        "examples": {
            preset: [{**one.model_dump(exclude={"seconds"}), "resolved": one.resolved} for one in some]
            for preset, some in resolved.items()
        },
    }
    write_whole(out / "switching.json", json.dumps(result, indent=1) + "\n")
    text = as_markdown(result, list(dict.fromkeys(kinds.values())))
    write_whole(out / "switching.md", text)
    return text


def _services(engine: LocalEngine) -> Services:
    return Services(
        model=engine.info.name,
        engine=engine,
        roster=None,
        policy=None,
        retriever=BM25Retriever(),
        router=rules,
    )


def _arms(
    rows: Sequence[Answer], arms: Sequence[str], metrics: Sequence[str], kinds: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Per arm: n, and each metric's mean; of the first metric the Wilson interval too, and by kind of case, which
    `kinds` says of each item."""
    figures: dict[str, dict[str, Any]] = {}
    for arm in arms:
        mine = [row for row in rows if row.arm == arm]
        hits = {row.item: row.metrics[metrics[0]] for row in mine}
        share = wilson(int(sum(hits.values())), len(hits))
        figures[arm] = {"n": len(hits), "low": round(share.low, 4), "high": round(share.high, 4)}
        figures[arm] |= {name: round(fmean(row.metrics[name] for row in mine), 4) for name in metrics}
        for kind in sorted(set(kinds.values())):
            some = [hit for item, hit in hits.items() if kinds[item] == kind]
            figures[arm][f"{metrics[0]}_{kind}"] = round(fmean(some), 4)
    return figures


def _compared(rows: Sequence[Answer], pairs: Sequence[tuple[str, str]], metric: str) -> list[dict[str, Any]]:
    """Each pair of arms on the same cases, with Holm's correction over the table."""
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        values.setdefault(row.arm, {})[row.item] = row.metrics[metric]
    drafts = [compare([values[a][i] for i in values[b]], list(values[b].values())) for a, b in pairs]
    return [
        {"arm": a, "against": b, "metric": metric, **one.model_dump(), "verdict": one.verdict}
        for (a, b), one in zip(pairs, corrected(drafts), strict=True)
    ]


def as_markdown(result: Mapping[str, Any], kinds: Sequence[str]) -> str:
    """The study for people."""
    parts = [
        f"# Switching on {result['model']['name']} (revision {result['model']['revision']})",
        f"`{result['command']}`: {result['settings']['n']} generated issues, every arm on all of them.",
        markdown_table(
            f"arm | repaired (hidden test) | {' / '.join(kinds)} | edit applies | suspect named | steered steps"
            " | refused",
            (
                f"{name} | {arm['repaired']:.1%} ({arm['low']:.1%} to {arm['high']:.1%})"
                f" | {' / '.join(format(arm[f'repaired_{kind}'], '.0%') for kind in kinds)} | {arm['applies']:.0%}"
                f" | {arm['suspect']:.0%} | {arm['steered_steps']:.1f} | {arm['refused']:.2f}"
                for name, arm in result["arms"].items()
            ),
        ),
        _comparison_table(result["comparisons"]),
        "## Do the suspects help retrieval?",
        markdown_table(
            "query | file ranked first | in the first five | right function named | names",
            (
                f"{name} | {arm['first']:.1%} ({arm['low']:.1%} to {arm['high']:.1%}) | {arm['in_five']:.1%}"
                f" | {arm['right_name']:.0%} | {arm['names']:.1f}"
                for name, arm in result["suspects"].items()
            ),
        ),
        _comparison_table(result["suspects_comparisons"]),
    ]
    if result["examples"]:
        rows = []
        for arm, issues in result["examples"].items():
            done = [one["name"] for one in issues if one["resolved"]]
            rows.append(f"{arm} | {len(done)} of {len(issues)} | {', '.join(done) or 'none'}")
        parts += ["## The example issues, one attempt each", markdown_table("arm | resolved | issues", rows)]
    return "\n\n".join(parts) + "\n"


def _comparison_table(compared: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in compared:
        comparison = Comparison.model_validate({key: one[key] for key in Comparison.model_fields})
        rows.append(f"{one['arm']} | {one['against']} | {in_words(comparison)}")
    return markdown_table("arm | against | paired", rows)
