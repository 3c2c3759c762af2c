"""The tables of a retrieval bench: recall with intervals, paired gains over rank_bm25, the ablation.

Knows records. A gain is `better` only where `steergraph.evals.stats` says so, after Holm's correction over the table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steergraph.base.text import markdown_table
from steergraph.evals.retrieval.arms import ARMS, FIELDS, IDENTIFIERS, PASSAGES, WHITESPACE
from steergraph.evals.retrieval.measure import BUDGETS, COUNTS, Kind, of_kind, recall
from steergraph.evals.retrieval.weights import Record, held_out
from steergraph.evals.stats import compare, corrected, mean_interval
from steergraph.retrieval.signals import SIGNALS

HELD_OUT = "steergraph, held out"


def tables(records: Sequence[Record]) -> str:
    """Everything that is shown, as Markdown."""
    measured = [r for r in records if "error" not in r and r["gold"]]
    if not measured:
        return "No instance could be measured.\n"
    arms = [arm for arm in ARMS if arm in measured[0]["arms"]]
    rankings = {arm: {r["instance_id"]: r["arms"][arm]["ranked"] for r in measured} for arm in arms}
    out = held_out(measured) if FIELDS in arms else {}
    if out:
        rankings[HELD_OUT] = out
    parts = [_about(records, measured)]
    kinds: tuple[Kind, ...] = ("avg", "all", "any")
    for kind in kinds:
        parts.append(f"## File recall ({kind}) by number of files\n\n" + _by_count(measured, rankings, kind))
    parts.append("## Gain in average file recall, paired\n\n" + _gains(measured, rankings))
    for kind in kinds:
        parts.append(
            f"## File recall ({kind}) by token budget\n\nWhole files; `{PASSAGES}`: files with a passage in it.\n\n"
            + _by_budget(measured, "files_at", kind)
        )
    with_functions = [r for r in measured if r["functions"]]
    if with_functions:
        parts.append(
            f"## Function recall (avg) by token budget\n\n{len(with_functions)} instances whose patch changes a "
            "function. In whole files: its file is there; in passages: every changed line of it is shown.\n\n"
            + _by_budget(with_functions, "functions_at", "avg")
        )
    parts.append("## By repository: average file recall\n\n" + _by_repository(measured, rankings))
    if out:
        parts.append(
            "## Ablation, held out\n\nWeights fitted anew without the signal, and without the repository that is "
            "judged.\n\n" + _ablation(measured)
        )
    return "\n\n".join(parts) + "\n"


def _about(records: Sequence[Record], measured: Sequence[Record]) -> str:
    repositories = sorted({r["repo"] for r in measured})
    lines = [f"{len(measured)} instances of {len(repositories)} repositories: {', '.join(repositories)}."]
    lines += [f"Not measured: {r['instance_id']}: {r['error']}" for r in records if "error" in r]
    lines += [f"Not counted, no gold file: {r['instance_id']}" for r in records if "error" not in r and not r["gold"]]
    return "\n".join(f"- {line}" for line in lines)


def _values(records: Sequence[Record], ranking: Mapping[str, Sequence[str]], count: int, kind: Kind) -> list[float]:
    return [of_kind(recall(ranking[r["instance_id"]][:count], r["gold"]), kind) for r in records]


def _by_count(records: Sequence[Record], rankings: Mapping[str, Mapping[str, Sequence[str]]], kind: Kind) -> str:
    rows = [
        [arm, *(_percent(mean_interval(_values(records, ranking, k, kind))) for k in COUNTS)]
        for arm, ranking in rankings.items()
    ]
    return markdown_table(["", *(f"@{k}" for k in COUNTS)], rows)


def _gains(records: Sequence[Record], rankings: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    plain = (WHITESPACE, IDENTIFIERS)
    pairs = [(arm, base) for arm in rankings if arm not in plain for base in plain] or [(IDENTIFIERS, WHITESPACE)]
    counts = COUNTS
    found = corrected(
        [
            compare(_values(records, rankings[arm], k, "avg"), _values(records, rankings[base], k, "avg"))
            for arm, base in pairs
            for k in counts
        ]
    )
    rows = []
    for n, (arm, base) in enumerate(pairs):
        mine = found[n * len(counts) : (n + 1) * len(counts)]
        rows.append([f"{arm} - {base}", *(f"{_points(c.difference)} {c.verdict}" for c in mine)])
    return markdown_table(["", *(f"@{k}" for k in counts)], rows)


def _by_budget(records: Sequence[Record], what: str, kind: Kind) -> str:
    rows = []
    for arm in (*ARMS, PASSAGES):
        if arm not in records[0]["arms"]:
            continue
        cells = [[of_kind(r["arms"][arm][what][str(b)], kind) for r in records] for b in BUDGETS]
        rows.append([arm, *(_percent(mean_interval(cell)) for cell in cells)])
    return markdown_table(["", *(f"{b:,}" for b in BUDGETS)], rows)


def _by_repository(records: Sequence[Record], rankings: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    arms = [arm for arm in (IDENTIFIERS, FIELDS, HELD_OUT) if arm in rankings]
    rows = []
    for repository in sorted({r["repo"] for r in records}):
        mine = [r for r in records if r["repo"] == repository]
        cells = []
        for arm in arms:
            at = [sum(_values(mine, rankings[arm], k, "avg")) / len(mine) for k in (1, 5, 10)]
            cells.append(" / ".join(f"{100 * value:.1f}" for value in at))
        rows.append([f"{repository} ({len(mine)})", *cells])
    return markdown_table(["@1 / @5 / @10", *arms], rows)


def _ablation(records: Sequence[Record]) -> str:
    whole = held_out(records)
    rows = [["all signals", *_plain(records, whole)]]
    for signal in SIGNALS:
        rows.append([f"without {signal}", *_plain(records, held_out(records, [signal]))])
    for signal in SIGNALS[:-1]:
        rows.append([f"{signal} alone", *_plain(records, held_out(records, [s for s in SIGNALS if s != signal]))])
    return markdown_table(["", *(f"@{k}" for k in COUNTS)], rows)


def _plain(records: Sequence[Record], ranking: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{100 * sum(_values(records, ranking, k, 'avg')) / len(records):.1f}" for k in COUNTS]


def _percent(interval: Any) -> str:
    return f"{100 * interval.estimate:.1f} ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def _points(interval: Any) -> str:
    return f"{100 * interval.estimate:+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
