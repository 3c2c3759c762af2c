"""A report, put together: variants read and measured, summed up, compared, and written as pages.

Knows the other report modules and where the files go. Every file is written whole.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steergraph.base.files import make_folder, write_whole
from steergraph.base.text import harmless
from steergraph.base.versions import version_of
from steergraph.evals.reports.charts import charts
from steergraph.evals.reports.grades import Grades
from steergraph.evals.reports.measure import Facts, Measure
from steergraph.evals.reports.pages import file_name, render
from steergraph.evals.reports.read import Variant, read_variants
from steergraph.evals.reports.samples import read_samples
from steergraph.evals.reports.table import Compared, Summary, baselines, compare_variants, summarise

_MOST_NOTES = 200


def write_trajectories(runs: Sequence[str], folder: str) -> int:
    """Write the runs as mini-swe-agent's trajectories, and say how many. 0. Raises InputError for bad input."""
    from steergraph.evals.reports.trajectories import export

    notes: list[str] = []
    written = export(read_variants(runs, notes), make_folder(folder), notes)
    _say([*(f"note: {note}" for note in notes), f"wrote {written} trajectories into {folder}"])
    return 0


def run_report(
    runs: Sequence[str],
    folder: str,
    *,
    logs: str | None = None,
    dataset: str | None = None,
    repos: str | None = None,
    against: str | None = None,
) -> int:
    """Write the report into `folder`, print its headline and where it is. 0. `logs` is where grading wrote.

    Raises InputError for bad input.
    """
    notes: list[str] = []
    variants = read_variants(runs, notes)
    grades = Grades(logs) if logs else None
    measure = Measure(dataset, repos, grades)
    facts = {v.label: {name: measure.of(entry, notes) for name, entry in v.entries.items()} for v in variants}
    if grades:
        _unmatched(variants, facts, grades, notes)
    summaries = [summarise(variant, facts[variant.label]) for variant in variants]
    gold = [s.label for s in summaries if s.is_gold]
    compared = compare_variants(facts, against, gold, baselines(variants))
    notes = list(dict.fromkeys(notes))
    left = [f"and {len(notes) - _MOST_NOTES} notes more"] if len(notes) > _MOST_NOTES else []
    values = {
        "title": f"Report on {', '.join(dict.fromkeys(v.run for v in variants))}",
        "version": version_of(),
        "summaries": summaries,
        "compared": compared,
        "tests": sum(row.found is not None for row in compared),
        "references": list(dict.fromkeys(row.against for row in compared)),
        "headline": headline(summaries, compared),
        "charts": charts(summaries, any(s.resolved.n for s in summaries)),
        "rules": sorted({key for s in summaries for key in s.rules}),
        "models": list(dict.fromkeys(v.model for v in variants)),
        "notes": notes[:_MOST_NOTES] + left,
        "runs": {v.run: _settings(v) for v in variants if v.settings},
        "dataset": dataset,
    }
    out = make_folder(folder)
    pages = _write(out, variants, facts, values, measure)
    _say([*(f"note: {note}" for note in notes), *headline(summaries, compared)])
    _say([f"wrote {out / 'index.html'}, report.md and {pages} pages in {out / 'instances'}"])
    return 0


def headline(summaries: Sequence[Summary], compared: Sequence[Compared]) -> list[str]:
    """What the report shows, and what it does not, in a sentence or two."""
    graded = any(summary.resolved.n for summary in summaries)
    lines = []
    if not graded:
        lines.append("Nothing was graded, so how many are resolved is not known.")
    metric, verb = ("resolved", "resolves") if graded else ("applies", "has patches that apply for")
    asked = [row for row in compared if row.metric == metric]
    for row in asked:
        if row.found and row.said in ("better", "worse"):
            much = "more" if row.said == "better" else "fewer"
            first, second = (round(share * row.found.n) for share in (row.found.first, row.found.second))
            lines.append(
                f"{row.label} {verb} {much} instances than {row.against}: {first} against {second} of {row.found.n}."
            )
    if asked and not any(row.said in ("better", "worse") for row in asked):
        references = " or ".join(dict.fromkeys(row.against for row in asked))
        lines.append(f"Not shown: that any variant {verb} more, or fewer, instances than {references}.")
    for summary in summaries:
        if summary.is_gold:
            lines.append(
                f"{summary.label} is the gold patch used as predictions: no result, and compared with nothing."
            )
        elif summary.gold:
            lines.append(f"Patches of {summary.label} that are the same as gold, letter by letter: {summary.gold}.")
    return lines


def _write(
    out: Path,
    variants: Sequence[Variant],
    facts: Mapping[str, Mapping[str, Facts]],
    values: Mapping[str, Any],
    measure: Measure,
) -> int:
    """Write a page for each instance that some variant has finished, in the order they were asked for, and what holds
    them together. `values` are what that shows. Returns how many instances there are."""
    finished = {name for variant in variants for name in variant.entries}
    names = list(dict.fromkeys(name for variant in variants for name in variant.expected if name in finished))
    links = [{"id": name, "href": file_name(name)} for name in names]
    for at, (name, link) in enumerate(zip(names, links, strict=True)):
        page = {
            "title": values["title"],
            "version": values["version"],
            "before": links[at - 1] if at else None,
            "after": links[at + 1] if at + 1 < len(links) else None,
            **_instance(name, variants, facts, measure),
        }
        write_whole(out / "instances" / link["href"], render("instance.html", **page), parents=True)
    rows = [
        {"id": name, "href": f"instances/{file_name(name)}", "cells": [facts[v.label].get(name) for v in variants]}
        for name in names
    ]
    for template in ("report.md", "index.html"):
        write_whole(out / template, render(template, **values, instances=rows))
    return len(names)


def _instance(
    name: str, variants: Sequence[Variant], facts: Mapping[str, Mapping[str, Facts]], measure: Measure
) -> dict[str, Any]:
    row = measure.rows.get(name, {})
    shown: list[dict[str, Any]] = [
        {
            "label": variant.label,
            "entry": entry,
            "facts": facts[variant.label][name],
            "samples": read_samples(entry),
        }
        for variant in variants
        if (entry := variant.entries.get(name)) is not None
    ]
    told = [sample.problem for each in shown for sample in each["samples"] if sample.problem]
    return {
        "id": name,
        "project": row.get("repo", ""),
        "commit": row.get("base_commit", ""),
        "problem": row.get("problem_statement") or next(iter(told), ""),
        "gold": measure.gold.get(name),
        "variants": shown,
    }


def _settings(variant: Variant) -> dict[str, str]:
    shown = {}
    for key, value in variant.settings.items():
        if value not in (None, "", [], {}):
            if key == "commands":
                value = "; ".join(map(str, value)) if isinstance(value, list) else value
            shown[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown


def _unmatched(
    variants: Sequence[Variant], facts: Mapping[str, Mapping[str, Facts]], grades: Grades, notes: list[str]
) -> None:
    graded = set(grades.models())
    for variant in variants:
        if any(each.graded for each in facts[variant.label].values()):
            continue
        names = {entry.model.replace("/", "__") for entry in variant.entries.values()}
        why = "for other patches" if names & graded else f"and there are {', '.join(sorted(graded)[:5]) or 'none'}"
        notes.append(f"{variant.label}: no verdict on its patches in the grading's logs, {why}")


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(harmless(line))
