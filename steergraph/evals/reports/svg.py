"""The charts of a report, as SVG text that stands in its page: no script, no file, colours from the page's style.

Knows numbers and labels, which it escapes. Every chart has a title and a description that say what it shows, so that it
can be read without being seen.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from steergraph.base.text import harmless
from steergraph.evals.stats import Interval

_WIDTH = 480
_LABEL = 150
_VALUE = 72
_ROW = 30
_TOP = 8
_LONGEST_LABEL = 20


def intervals(name: str, title: str, rows: Sequence[tuple[str, Interval | None, str]]) -> Markup:
    """Shares with their intervals, a dot and a line each; axis from 0 to 100 %.

    Args:
        name: the chart's own among the page's, letters and dashes.
        rows: label; interval, None where nothing is known; and what is written beside it.
    """
    plot = _WIDTH - _LABEL - _VALUE
    height = _TOP + len(rows) * _ROW + 22
    parts = []
    for share in (0, 25, 50, 75, 100):
        x = _LABEL + plot * share / 100
        parts.append(_line(x, _TOP, x, height - 22, "grid"))
        parts.append(_text(x, height - 6, f"{share} %" if share == 100 else str(share), "tick", "middle"))
    said = []
    for at, (label, interval, beside) in enumerate(rows):
        y = _TOP + at * _ROW + _ROW / 2
        parts.append(_text(_LABEL - 14, y + 4, _cut(label), "name", "end"))
        parts.append(_text(_WIDTH, y + 4, beside, "value", "end"))
        if interval is not None:
            low, here, high = (_LABEL + plot * value for value in (interval.low, interval.estimate, interval.high))
            parts.append(_line(low, y, high, y, "range"))
            parts.append(f'<circle class="dot" cx="{here:.1f}" cy="{y:.1f}" r="5"/>')
        said.append(f"{label}: {beside}")
    return _svg(name, title, "; ".join(said), height, parts)


def stacked(name: str, title: str, rows: Sequence[tuple[str, Mapping[str, int]]], classes: Mapping[str, str]) -> Markup:
    """Counts by kind, one bar a row, all on the same scale.

    Args:
        rows: label, and count by kind.
        classes: kinds in their order, with the class that colours each.
    """
    plot = _WIDTH - _LABEL - 40
    height = _TOP + len(rows) * _ROW + 6
    largest = max((sum(counts.values()) for _, counts in rows), default=0) or 1
    parts, said = [], []
    for at, (label, counts) in enumerate(rows):
        y = _TOP + at * _ROW + 4
        parts.append(_text(_LABEL - 14, y + 15, _cut(label), "name", "end"))
        x = float(_LABEL)
        for kind, colour in classes.items():
            if not (number := counts.get(kind, 0)):
                continue
            width = plot * number / largest
            parts.append(
                f'<rect class="{escape(colour)}" x="{x:.1f}" y="{y}" width="{max(1.0, width - 1.5):.1f}" height="21" '
                f'rx="2"><title>{escape(harmless(f"{label}: {number} {kind}"))}</title></rect>'
            )
            if width > 20:
                parts.append(_text(x + width / 2, y + 15, str(number), f"on {escape(colour)}-on", "middle"))
            x += width
        parts.append(_text(x + 8, y + 15, str(sum(counts.values())), "value", "start"))
        said.append(f"{label}: {', '.join(f'{number} {kind}' for kind, number in counts.items()) or 'none'}")
    return _svg(name, title, "; ".join(said), height, parts)


def bars(name: str, title: str, rows: Sequence[tuple[str, float | None, str]]) -> Markup:
    """Amounts, one bar a row, from 0; label, amount (None: not known), and what is written beside it."""
    plot = _WIDTH - _LABEL - _VALUE
    height = _TOP + len(rows) * _ROW + 6
    largest = max((value for _, value, _ in rows if value is not None), default=0) or 1
    parts = []
    for at, (label, value, beside) in enumerate(rows):
        y = _TOP + at * _ROW + 4
        parts.append(_text(_LABEL - 14, y + 15, _cut(label), "name", "end"))
        width = plot * (value or 0) / largest
        parts.append(f'<rect class="c1" x="{_LABEL}" y="{y}" width="{width:.1f}" height="21" rx="2"/>')
        parts.append(_text(_LABEL + width + 8, y + 15, beside, "value", "start"))
    return _svg(name, title, "; ".join(f"{label}: {beside}" for label, _, beside in rows), height, parts)


def _svg(name: str, title: str, said: str, height: float, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-labelledby="{escape(name)}-t {escape(name)}-d">'
        f'<title id="{escape(name)}-t">{escape(harmless(title))}</title>'
        f'<desc id="{escape(name)}-d">{escape(harmless(said))}</desc>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(harmless(text))}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _cut(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
