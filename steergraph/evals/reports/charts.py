"""The charts of a report, drawn by matplotlib as SVG that stands in its page: no script, no file, text as text.

Knows summaries, numbers and labels. Colours are drawn as stand-ins and become variables of the page's style, so that
charts are light or dark with it. Every chart has a title and a description that say what it shows, so that it can be
read without being seen. The same numbers give the same bytes.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from steergraph.base.text import harmless
from steergraph.evals.reports.pages import count
from steergraph.evals.reports.table import Share, Summary
from steergraph.evals.stats import Interval

_ENDS = {
    "resolved": "good", "unresolved": "bad", "not applied": "bad", "stopped": "bad", "ungraded": "c3",
    "patched": "c1", "patched untested": "c1", "prediction": "c1",
    "checks failed": "c2", "edit did not apply": "c2", "no edit": "quiet",
    "no context": "quiet", "out of budget": "quiet", "empty": "quiet", "error": "bad",
}  # fmt: skip
_MODES = {"steered": "c1", "outside spans": "c2", "off": "quiet"}
_COLOURS = ("ink", "soft", "rule", "on", "on-c2", "c1", "c2", "c3", "good", "bad", "quiet")
"""Variables of the page's style."""
_WIDTH, _LABEL, _VALUE, _ROW, _TOP = 480, 150, 72, 30, 8
"""Of a chart, its labels, the numbers beside it, a row, and the space above the first: pixels at its own size."""
_LONGEST_LABEL = 17


def charts(summaries: Sequence[Summary], graded: bool) -> list[dict[str, Any]]:
    """The charts in their order: title, svg, legend (kind to colour) or None, caption."""
    found = []
    name, title = ("resolved", "Resolved") if graded else ("applies", "Patches that apply")
    shares = [(s.label, s.resolved if graded else s.applies) for s in summaries]
    svg = intervals(name, f"{title}, share of instances", _shares(shares))
    found.append(_chart(title, svg, "Dot: share. Line: 95 % interval."))
    if any(s.found.n for s in summaries):
        title = "A file that gold changes was shown or edited, share of instances"
        svg = intervals("found", title, _shares([(s.label, s.found) for s in summaries]))
        found.append(_chart("Found the file", svg, "A file that gold changes was in the context, or is edited."))
    ends = [(s.label, {kind.replace("_", " "): number for kind, number in s.statuses.items()}) for s in summaries]
    legend = _legend(_ENDS, ends)
    found.append(_chart("How instances ended", stacked("ends", "Instances by exit status", ends, legend), "", legend))
    modes = [(s.label, _by_mode(s)) for s in summaries]
    if any(counts for _, counts in modes):
        legend = _legend(_MODES, modes)
        svg = stacked("modes", "Steps by steering on and off", modes, legend)
        found.append(_chart("Steps, steered and not", svg, "Which rule decided is in the table below.", legend))
    if any(s.tokens for s in summaries):
        amounts = [(s.label, s.tokens / s.finished if s.tokens is not None and s.finished else None) for s in summaries]
        svg = bars("tokens", "Completion tokens for each instance", [(label, n, count(n)) for label, n in amounts])
        found.append(_chart("Tokens for each instance", svg, "Completion tokens of all samples."))
    return found


def intervals(name: str, title: str, rows: Sequence[tuple[str, Interval | None, str]]) -> Markup:
    """Shares with their intervals, a dot and a line each; axis from 0 to 100 %.

    Args:
        name: the chart's own among the page's, letters and dashes.
        rows: label; interval, None where nothing is known; and what is written beside it.
    """
    with _axes(name, [label for label, _, _ in rows], _VALUE, below=22) as axes:
        ticks = (0, 25, 50, 75, 100)
        axes.set_xticks([tick / 100 for tick in ticks], [f"{tick} %" if tick == 100 else str(tick) for tick in ticks])
        axes.tick_params(axis="x", labelsize=11, labelcolor=_colour("soft"))
        axes.grid(axis="x", color=_colour("rule"), linewidth=1, clip_on=False)
        for y, (_, interval, beside) in enumerate(rows):
            axes.text(1 + _VALUE / (_WIDTH - _LABEL - _VALUE), y, harmless(beside), color=_colour("soft"), ha="right")
            if interval is not None:
                line = {"color": _colour("c1"), "linewidth": 3, "alpha": 0.45, "solid_capstyle": "round"}
                axes.plot([interval.low, interval.high], [y, y], **line)
                axes.plot(interval.estimate, y, "o", markersize=10, color=_colour("c1"))
        return _svg(axes, name, title, [f"{label}: {beside}" for label, _, beside in rows])


def stacked(name: str, title: str, rows: Sequence[tuple[str, Mapping[str, int]]], colours: Mapping[str, str]) -> Markup:
    """Counts by kind, one bar a row, all on the same scale.

    Args:
        rows: label, and count by kind.
        colours: kinds in their order, with the name of the colour of each.
    """
    largest = max((sum(counts.values()) for _, counts in rows), default=0) or 1
    tips: dict[str, str] = {}
    with _axes(name, [label for label, _ in rows], 40) as axes:
        pixel = largest / (_WIDTH - _LABEL - 40)
        for y, (label, counts) in enumerate(rows):
            start = 0
            for kind, colour in colours.items():
                if not (number := counts.get(kind, 0)):
                    continue
                tip = f"tip-{len(tips)}"
                tips[tip] = f"{label}: {number} {kind}"
                width = max(pixel, number - 1.5 * pixel)
                axes.barh(y, width, 0.7, start, align="center", color=_colour(colour), gid=tip)
                if number > 20 * pixel:
                    on = {"quiet": "ink", "c2": "on-c2"}.get(colour, "on")
                    axes.text(start + number / 2, y, str(number), color=_colour(on), fontsize=12, ha="center")
                start += number
            axes.text(start + 8 * pixel, y, str(sum(counts.values())), color=_colour("soft"))
        axes.set_xlim(0, largest)
        parts = [(label, ", ".join(f"{n} {kind}" for kind, n in counts.items()) or "none") for label, counts in rows]
        return _svg(axes, name, title, [f"{label}: {part}" for label, part in parts], tips)


def bars(name: str, title: str, rows: Sequence[tuple[str, float | None, str]]) -> Markup:
    """Amounts, one bar a row, from 0; label, amount (None: not known), and what is written beside it."""
    largest = max((value for _, value, _ in rows if value is not None), default=0) or 1
    with _axes(name, [label for label, _, _ in rows], _VALUE) as axes:
        for y, (_, value, beside) in enumerate(rows):
            axes.barh(y, value or 0, 0.7, color=_colour("c1"))
            at = (value or 0) + 8 * largest / (_WIDTH - _LABEL - _VALUE)
            axes.text(at, y, harmless(beside), color=_colour("soft"))
        axes.set_xlim(0, largest)
        return _svg(axes, name, title, [f"{label}: {beside}" for label, _, beside in rows])


@contextmanager
def _axes(name: str, labels: Sequence[str], right: int, below: int = 6) -> Iterator[Any]:
    """Axes for the chart `name`: a row for each label, from the top; `right` and `below` are pixels beside and under
    them."""
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.figure import Figure

    with rc_context():
        rcdefaults()  # whatever the user's own settings are
        rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False})
        rcParams.update({"text.color": _colour("ink"), "font.size": 13, "font.sans-serif": ["DejaVu Sans"]})
        rows = max(1, len(labels)) * _ROW
        height = _TOP + rows + below
        figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72, frameon=False)
        place = (_LABEL / _WIDTH, below / height, (_WIDTH - _LABEL - right) / _WIDTH, rows / height)
        axes = figure.add_axes(place, frameon=False, ylim=(rows / _ROW - 0.5, -0.5), xlim=(0, 1), axisbelow=True)
        short = [label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…" for label in labels]
        axes.set_yticks(range(len(labels)), [harmless(label) for label in short])
        axes.set_xticks([])
        axes.tick_params(length=0, labelcolor=_colour("ink"))
        axes.tick_params(axis="y", pad=14)
        yield axes


def _svg(axes: Any, name: str, title: str, rows: Sequence[str], tips: Mapping[str, str] | None = None) -> Markup:
    """The figure for its page: named, described by `rows`, with `tips` on the parts of those ids, in its colours."""
    for text in axes.texts:
        text.set_verticalalignment("center_baseline")
    for artist in axes.get_children():
        artist.set_clip_on(False)
    drawn = io.StringIO()
    axes.figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(drawn.getvalue())
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-labelledby": f"{name}-t {name}-d"}
    root.remove(root[0])  # a style that would be the whole page's
    for element in root.iter():
        element.tag = element.tag.removeprefix("{http://www.w3.org/2000/svg}")
        if shape := element.attrib.pop("{http://www.w3.org/1999/xlink}href", None):
            element.set("href", shape)
        if element.tag == "g" and (tip := (tips or {}).get(element.attrib.pop("id", ""))):
            _insert(element, 0, "title", tip)
    _insert(root, 0, "title", title, id=f"{name}-t")
    _insert(root, 1, "desc", "; ".join(rows), id=f"{name}-d")
    text = ElementTree.tostring(root, encoding="unicode")
    for colour in _COLOURS:
        text = text.replace(_colour(colour), f"var(--{colour})")
    return Markup(text)


def _insert(parent: ElementTree.Element, at: int, tag: str, text: str, **attributes: str) -> None:
    child = ElementTree.Element(tag, attributes)
    child.text = harmless(text)
    parent.insert(at, child)


def _colour(name: str) -> str:
    """What stands for a variable of the page's style while it is drawn."""
    return f"#fe01{_COLOURS.index(name):02x}"


def _chart(title: str, svg: Markup, caption: str, legend: dict[str, str] | None = None) -> dict[str, Any]:
    return {"title": title, "svg": svg, "caption": caption, "legend": legend}


def _legend(colours: Mapping[str, str], rows: Sequence[tuple[str, Mapping[str, int]]]) -> dict[str, str]:
    present = {kind for _, counts in rows for kind in counts}
    return {kind: colour for kind, colour in colours.items() if kind in present}


def _shares(shares: Sequence[tuple[str, Share]]) -> list[tuple[str, Interval | None, str]]:
    return [
        (label, share.interval if share.n else None, f"{share.hits} of {share.n}" if share.n else "not known")
        for label, share in shares
    ]


def _by_mode(summary: Summary) -> dict[str, int]:
    names = {"on": "steered", "outside_spans": "outside spans"}
    counts: dict[str, int] = {}
    for (_, mode), number in summary.rules.items():
        name = names.get(mode, "off")
        counts[name] = counts.get(name, 0) + number
    return counts
