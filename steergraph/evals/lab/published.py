"""What a study leaves behind: the cells' file that the graph reads, the tables for people, the record for programs.

Knows findings. Knows nothing of how they were made.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from steergraph.engine.protocol import ModelInfo
from steergraph.evals.lab.findings import CellScore, Found, SweepResult, Thirds
from steergraph.evals.stats import Comparison

_COMMAND = "steergraph lab sweep"
_MORE = ("more", "fewer")


def cells_yaml(info: ModelInfo, found: Sequence[Found], command: str) -> str:
    """configs/cells/NAME.yaml: for each domain the cell that was chosen by right answers, with what became of it.

    Only vectors of the packaged contrast sets: they are what the graph speaks with. A cell that gained nothing on the
    items it was chosen on, or lost anything on the others, shown or not, is left out: the default cell stands there.
    """
    lines = [
        f"# Cells of {info.name}, written by `{command}`: do not edit by hand.",
        "# Chosen by right answers under the specialist's own prompt, reported on other items. `proven` only where",
        "# those show a gain over unsteered after Holm's correction. A domain without a cell that gained where it was",
        "# chosen and lost nothing where it is reported has none here; leaving them out makes the scores lean upwards.",
        "",
        f"model: {json.dumps(info.name)}",
        f"revision: {json.dumps(info.revision)}",
        f"n_layers: {info.n_layers}",
        f"hidden_size: {info.hidden_size}",
        f"study: {json.dumps(_COMMAND)}",
        "positions: all",
        "",
        "tables:",
    ]
    usable = [(one, one.accuracy) for one in found if one.accuracy is not None and _steers(one, one.accuracy)]
    if not usable:
        lines[-1] = "tables: []"
    for one, report in usable:
        lines += [
            f"  - source: {json.dumps('report split of the sweep')}",
            f"    unit: {one.cell.unit}",
            f"    proven: {str(report.verdict == 'better').lower()}",
            f"    metric: {json.dumps('right answers under its own prompt, share')}",
            f"    n: {report.n}",
            f"    note: {json.dumps(_note(one, report))}",
            "    cells:",
            f"      {one.domain}: {{layer: {one.cell.layer}, alpha: {one.cell.alpha:g}, score: {report.first:.4g}}}",
        ]
    return "\n".join(lines) + "\n"


def _steers(one: Found, report: Comparison) -> bool:
    contrast = one.goal == "task" and one.cell.source == "contrast"
    return contrast and one.chosen_score > one.baseline_score and report.difference.estimate >= 0


def _note(one: Found, report: Comparison) -> str:
    return (
        f"unsteered {report.second:.4g}, difference {report.difference:+.3f}, "
        f"p {_p(report)} after Holm: {report.verdict}; "
        f"chosen on {one.chosen_on} other items with {one.chosen_score:.4g} against {one.baseline_score:.4g}; "
        f"relative dose {one.relative_dose:.3g}"
    )


def markdown_table(header: str, rows: Iterable[str]) -> str:
    """A Markdown table of lines whose cells stand between bars."""
    rule = "|" + "---|" * (header.count("|") + 1)
    return "\n".join([f"| {header} |", rule, *(f"| {row} |" for row in rows)])


def found_table(found: Sequence[Found]) -> str:
    """Markdown: every chosen cell, on which items it was chosen, and what the report split says."""
    return markdown_table(
        "domain | chosen for | vector | cell | dose | chosen: steered / unsteered | register, open prompt"
        " | right, own prompt | changed | added repetition, nats a token",
        (
            f"{one.domain} | {one.goal} | {one.cell.source}"
            f" | layer {one.cell.layer}, {one.cell.alpha:g} {one.cell.unit}"
            f" | {one.relative_dose:.2f} | {one.chosen_score:.0%} / {one.baseline_score:.0%}"
            f" | {in_words(one.register_rate)} | {in_words(one.accuracy)} | {_coherence(one)}"
            for one in found
        ),
    )


def _coherence(one: Found) -> str:
    """The table's last two cells."""
    if one.changed is None or one.repetition is None:
        return " | "
    return f"{one.changed:.0%} | {one.repetition:+.1%}, {'' if one.nats is None else f'{one.nats:+.2f}'}"


def in_words(comparison: Comparison | None, words: tuple[str, str] = ("better", "worse")) -> str:
    """One comparison in a table: both shares, the paired difference with its interval, p after correction, verdict.

    `words` are what a difference that was shown is called, upwards and downwards."""
    if comparison is None:
        return ""
    gap, verdict = comparison.difference, comparison.verdict
    named = {"better": words[0], "worse": words[1]}.get(verdict, verdict)
    return (
        f"{comparison.first:.0%} / {comparison.second:.0%} of {comparison.n}: "
        f"{gap.estimate:+.1%} ({gap.low:+.1%} to {gap.high:+.1%}), p {_p(comparison)}, **{named}**"
    )


def _p(comparison: Comparison) -> str:
    return f"{comparison.p if comparison.p_corrected is None else comparison.p_corrected:.2g}"


def thirds_table(found: Sequence[Thirds]) -> str:
    """Markdown: late layers against middle ones at each dose."""
    return markdown_table(
        "vector | unit | alpha | relative dose middle / late | answers changed, late / middle"
        " | added register, late / middle",
        (
            f"{one.source} | {one.unit} | {one.alpha:.4g} | {one.middle_dose:.2f} / {one.late_dose:.2f}"
            f" | {in_words(one.changed, _MORE)} | {in_words(one.register_gain, _MORE)}"
            for one in found
        ),
    )


def record(result: SweepResult) -> str:
    """The whole of a sweep as JSON, a line for each cell."""
    head = {
        **result.manifest,
        "classifier": result.classifier,
        "found": [one.model_dump(mode="json") for one in result.found],
        "late_layers": [one.model_dump(mode="json") for one in result.late],
    }
    text = json.dumps(head, indent=1)
    cells = ",\n".join(json.dumps(_short(score)) for score in result.table)
    return f'{text[:-2]},\n "cells": [\n{cells}\n ]\n}}\n'


def _short(score: CellScore) -> dict[str, Any]:
    cell = score.cell
    place = [cell.source, cell.unit, cell.alpha, cell.layer] if cell else None
    values = (score.register_rate, score.accuracy, score.changed, score.repetition, score.nats, score.relative_dose)
    names = ("register", "right", "changed", "repetition", "nats", "dose")
    short = {name: None if value is None else round(value, 4) for name, value in zip(names, values, strict=True)}
    return {"domain": score.domain, "prompt": score.prompt, "cell": place, "n": score.n, **short}


def as_markdown(result: SweepResult) -> str:
    """The findings for people."""
    corpus, own = result.classifier["corpus"], result.classifier.get("own_answers")
    info = result.manifest["model"]
    line = f"The classifier tells {corpus['estimate']:.1%} of {corpus['n']} generated texts right"
    if own:
        line += (
            f", and {own['estimate']:.1%} ({own['low']:.1%} to {own['high']:.1%}) of {own['n']} unsteered answers of "
            "the model under the specialists' own prompts: "
            f"{json.dumps(result.classifier['own_answers_by_domain'])}"
        )
    return "\n\n".join(
        [
            f"# Sweep of {info['name']} ({info['n_layers']} layers, revision {info['revision']})",
            f"`{result.manifest['command']}`",
            f"{line}.",
            "## The chosen cells, on other items",
            found_table(result.found),
            "## Are late layers frozen?",
            thirds_table(result.late),
        ]
    ) + "\n"  # fmt: skip
