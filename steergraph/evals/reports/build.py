"""A report, put together: variants read and measured, summed up, compared, and written as pages.

Knows the other report modules and where the files go. Every file is written whole.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.base.text import harmless
from steergraph.evals.reports.charts import charts
from steergraph.evals.reports.grades import Grades
from steergraph.evals.reports.markdown import markdown
from steergraph.evals.reports.measure import Facts, Measure
from steergraph.evals.reports.pages import file_name, render
from steergraph.evals.reports.read import Variant, read_variants
from steergraph.evals.reports.samples import read_samples
from steergraph.evals.reports.table import Compared, Summary, compare_variants, summarise

_MOST_NOTES = 200
_TITLE = "Report on {}"


def run_report(arguments: argparse.Namespace) -> int:
    """Write the report, print its headline and where it is. 0. Raises InputError for bad input."""
    notes: list[str] = []
    variants = read_variants(arguments.runs, notes)
    if arguments.trajectories:
        from steergraph.evals.reports.trajectories import export

        written = export(variants, _folder(arguments.trajectories), notes)
        for note in notes:
            print(harmless(f"note: {note}"))
        print(harmless(f"wrote {written} trajectories into {arguments.trajectories}"))
        return 0
    grades = Grades(arguments.grades) if arguments.grades else None
    measure = Measure(arguments.dataset, arguments.repos, grades)
    facts = {v.label: {name: measure.of(entry, notes) for name, entry in v.entries.items()} for v in variants}
    if grades:
        _unmatched(variants, facts, grades, notes)
    summaries = [summarise(variant, facts[variant.label]) for variant in variants]
    gold = [summary.label for summary in summaries if summary.is_gold]
    compared = compare_variants(facts, arguments.against, gold)
    out = _folder(arguments.out)
    lines = headline(summaries, compared)
    _write(out, variants, facts, summaries, compared, lines, list(dict.fromkeys(notes)), measure, arguments.dataset)
    for note in dict.fromkeys(notes):
        print(harmless(f"note: {note}"))
    for line in lines:
        print(harmless(line))
    print(harmless(f"wrote {out / 'index.html'}, report.md and {len(_ids(variants))} pages in {out / 'instances'}"))
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
        lines.append(f"Not shown: that any variant {verb} more, or fewer, instances than {asked[0].against}.")
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
    summaries: Sequence[Summary],
    compared: Sequence[Compared],
    lines: Sequence[str],
    notes: list[str],
    measure: Measure,
    dataset: str | None,
) -> None:
    ids = _ids(variants)
    common = {"title": _TITLE.format(", ".join(dict.fromkeys(v.run for v in variants))), "version": _version()}
    if len(notes) > _MOST_NOTES:
        notes = [*notes[:_MOST_NOTES], f"and {len(notes) - _MOST_NOTES} notes more"]
    cells = {name: [_cell(facts[v.label].get(name)) for v in variants] for name in ids}
    (out / "instances").mkdir(exist_ok=True)
    links = [{"id": name, "href": file_name(name)} for name in ids]
    for at, name in enumerate(ids):
        page = _instance(name, variants, facts, measure)
        around = {"before": links[at - 1] if at else None, "after": links[at + 1] if at + 1 < len(ids) else None}
        write_whole(out / "instances" / file_name(name), render("instance.html", **common, **around, **page))
    index = render(
        "index.html",
        **common,
        summaries=summaries,
        compared=compared,
        tests=sum(row.found is not None for row in compared),
        against=compared[0].against if compared else "",
        headline=lines,
        charts=charts(summaries, any(s.resolved.n for s in summaries)),
        rules=sorted({key for s in summaries for key in s.rules}),
        models=list(dict.fromkeys(v.model for v in variants)),
        instances=[{"id": name, "href": f"instances/{file_name(name)}", "cells": cells[name]} for name in ids],
        notes=notes,
        runs=[{"name": v.run, "settings": _settings(v)} for v in {v.run: v for v in variants}.values() if v.settings],
        dataset=dataset,
    )
    rows = [(name, [cell["said"] if cell else "–" for cell in cells[name]]) for name in ids]
    write_whole(out / "report.md", markdown(common["title"], lines, summaries, compared, rows, notes))
    write_whole(out / "index.html", index)


def _instance(
    name: str, variants: Sequence[Variant], facts: Mapping[str, Mapping[str, Facts]], measure: Measure
) -> dict[str, Any]:
    row = measure.rows.get(name, {})
    shown, problem = [], row.get("problem_statement", "")
    for variant in variants:
        if (entry := variant.entries.get(name)) is None:
            continue
        own = facts[variant.label][name]
        samples = read_samples(entry)
        problem = problem or next((sample.problem for sample in samples if sample.problem), "")
        shown.append(
            {
                "label": variant.label,
                "said": own.verdict or own.status,
                "entry": entry,
                "facts": own,
                "samples": samples,
                "log": own.graded.tail() if own.graded else ("", 0),
            }
        )
    return {
        "id": name,
        "project": row.get("repo", ""),
        "commit": row.get("base_commit", ""),
        "problem": problem,
        "gold": measure.gold.get(name),
        "variants": shown,
    }


def _cell(facts: Facts | None) -> dict[str, Any] | None:
    return None if facts is None else {"said": facts.verdict or facts.status, "is_gold": facts.is_gold}


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


def _ids(variants: Sequence[Variant]) -> list[str]:
    """Every instance that some variant has finished, in the order they were asked for."""
    finished = {name for variant in variants for name in variant.entries}
    return list(dict.fromkeys(name for variant in variants for name in variant.expected if name in finished))


def _folder(path: str) -> Path:
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {path}: {error.strerror}") from error
    return folder


def _version() -> str:
    try:
        return metadata.version("steergraph")
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        return ""
