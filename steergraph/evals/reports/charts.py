"""Which charts a report has, and what is in them. Knows summaries; how a chart is drawn is `svg`'s business."""

from collections.abc import Sequence
from typing import Any

from steergraph.evals.reports.pages import count
from steergraph.evals.reports.svg import bars, intervals, stacked
from steergraph.evals.reports.table import Share, Summary

_ENDS = {
    "resolved": "good", "unresolved": "bad", "not applied": "bad", "stopped": "bad", "ungraded": "c3",
    "patched": "c1", "prediction": "c1", "checks failed": "c2", "edit did not apply": "c2", "no edit": "quiet",
    "no context": "quiet", "out of budget": "quiet", "empty": "quiet", "error": "bad",
}  # fmt: skip
_MODES = {"steered": "c1", "outside spans": "c2", "off": "quiet"}


def charts(summaries: Sequence[Summary], graded: bool) -> list[dict[str, Any]]:
    """The charts in their order: title, svg, legend (kind to colour) or None, caption."""
    found = []
    name, title = ("resolved", "Resolved") if graded else ("applies", "Patches that apply")
    rows = [
        (s.label, _shown(s.resolved if graded else s.applies), _beside(s.resolved if graded else s.applies))
        for s in summaries
    ]
    found.append(
        _chart(title, intervals(name, f"{title}, share of instances", rows), "Dot: share. Line: 95 % interval.")
    )
    if any(s.found.n for s in summaries):
        rows = [(s.label, _shown(s.found), _beside(s.found)) for s in summaries]
        svg = intervals("found", "A file that gold changes was shown or edited, share of instances", rows)
        found.append(_chart("Found the file", svg, "A file that gold changes was in the context, or is edited."))
    ends = [(s.label, {kind.replace("_", " "): number for kind, number in s.statuses.items()}) for s in summaries]
    present = {kind for _, counts in ends for kind in counts}
    legend = {kind: colour for kind, colour in _ENDS.items() if kind in present}
    found.append(_chart("How instances ended", stacked("ends", "Instances by exit status", ends, legend), "", legend))
    modes = [(s.label, _by_mode(s)) for s in summaries]
    if any(counts for _, counts in modes):
        present = {kind for _, counts in modes for kind in counts}
        legend = {kind: colour for kind, colour in _MODES.items() if kind in present}
        svg = stacked("modes", "Steps by steering on and off", modes, legend)
        found.append(_chart("Steps, steered and not", svg, "Which rule decided is in the table below.", legend))
    if any(s.tokens for s in summaries):
        amounts = [(s.label, s.tokens / s.finished if s.tokens is not None and s.finished else None) for s in summaries]
        svg = bars("tokens", "Completion tokens for each instance", [(label, n, count(n)) for label, n in amounts])
        found.append(_chart("Tokens for each instance", svg, "Completion tokens of all samples."))
    return found


def _chart(title: str, svg: Any, caption: str, legend: dict[str, str] | None = None) -> dict[str, Any]:
    return {"title": title, "svg": svg, "caption": caption, "legend": legend}


def _shown(share: Share) -> Any:
    return share.interval if share.n else None


def _beside(share: Share) -> str:
    return f"{share.hits} of {share.n}" if share.n else "not known"


def _by_mode(summary: Summary) -> dict[str, int]:
    names = {"on": "steered", "outside_spans": "outside spans"}
    counts: dict[str, int] = {}
    for (_, mode), number in summary.rules.items():
        name = names.get(mode, "off")
        counts[name] = counts.get(name, 0) + number
    return counts
