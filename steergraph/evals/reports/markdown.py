"""A report as Markdown: the same tables, for pull requests and terminals. Knows numbers and the marks of Markdown."""

import re
from collections.abc import Sequence

from steergraph.base.text import harmless
from steergraph.evals.reports.pages import count, p_value, percent, signed, value, words
from steergraph.evals.reports.table import Compared, Share, Summary


def escaped(text: str) -> str:
    """`text` as it is, in one line of a table: no markup, no HTML, no control characters."""
    line = " ".join(harmless(text).split())
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown(
    title: str,
    headline: Sequence[str],
    summaries: Sequence[Summary],
    compared: Sequence[Compared],
    instances: Sequence[tuple[str, Sequence[str]]],
    notes: Sequence[str],
) -> str:
    """The whole report. `instances`: an id, and what came of it in each variant."""
    parts = [f"# {escaped(title)}", *(escaped(line) for line in headline), "## Variants", _variants(summaries)]
    if compared:
        parts += ["## Compared", _compared(compared)]
    rules = sorted({key for summary in summaries for key in summary.rules})
    if rules:
        rows = [
            [f"`{escaped(rule)}`", words(mode), *(str(s.rules.get((rule, mode), 0)) for s in summaries)]
            for rule, mode in rules
        ]
        parts += ["## Steps by rule", _table(["rule", "steering", *(s.label for s in summaries)], rows, left=2)]
    rows = [[escaped(name), *(words(said) for said in cells)] for name, cells in instances]
    parts += ["## Instances", _table(["instance", *(s.label for s in summaries)], rows, left=1 + len(summaries))]
    if notes:
        parts += ["## Notes", "\n".join(f"- {escaped(note)}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def _variants(summaries: Sequence[Summary]) -> str:
    heads = [
        "variant", "finished", "resolved", "ungraded", "patches", "apply", "parse", "file in context", "file edited",
        "tokens", "seconds", "truncated",
    ]  # fmt: skip
    rows = []
    for each in summaries:
        gold = (" (the gold patch)" if each.is_gold else f" ({each.gold} same as gold)") if each.gold else ""
        rows.append(
            [
                escaped(each.label) + gold,
                f"{each.finished} / {each.expected}",
                _share(each.resolved) if each.resolved.n else "not graded",
                str(each.ungraded),
                *map(_share, (each.patched, each.applies, each.parses, each.in_context, each.edited)),
                *map(count, (each.tokens, each.seconds, each.truncated)),
            ]
        )
    return _table(heads, rows)


def _compared(compared: Sequence[Compared]) -> str:
    rows = []
    for row in compared:
        found = row.found
        if found is None:
            rows.append([row.metric, escaped(row.label), escaped(row.why), "", "", "", "", "not shown"])
            continue
        low, high = (signed(end, row.kind) for end in (found.difference.low, found.difference.high))
        rows.append(
            [
                row.metric,
                escaped(row.label),
                f"{value(found.first, row.kind)} against {value(found.second, row.kind)}",
                f"{signed(found.difference.estimate, row.kind)} ({low} to {high})",
                f"{found.wins} / {found.losses}",
                str(found.n),
                p_value(found.p_corrected),
                row.said,
            ]
        )
    heads = [
        "measure",
        "variant",
        f"against {compared[0].against}",
        "difference",
        "ahead / behind",
        "n",
        "p (Holm)",
        "",
    ]
    return _table(heads, rows, left=2)


def _share(share: Share) -> str:
    return f"{share.hits} / {share.n} ({percent(share.interval)})" if share.n else "–"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    lines = [[escaped(head) for head in heads], ["---" if at < left else "--:" for at in range(len(heads))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
