"""The pages of a report: templates, the words and numbers in them, and what makes text from outside harmless.

Knows Jinja and the templates in `templates`. Every value that a template prints is made harmless and escaped, for HTML
or for Markdown; the only text that is not is SVG from `charts`, which escapes by itself.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from steergraph.agents.policy import Decision, describe
from steergraph.base.text import harmless
from steergraph.evals.stats import Interval

LONGEST_DIFF = 200_000
"""Characters of a patch that a page shows."""
_TONES = {
    **dict.fromkeys(("resolved", "better", "patched"), "good"),
    **dict.fromkeys(("unresolved", "worse", "not_applied", "stopped", "error", "checks_failed"), "bad"),
    **dict.fromkeys(("patched_untested", "edit_did_not_apply", "out_of_budget", "ungraded", "more", "fewer"), "mid"),
}


def render(template: str, **values: Any) -> str:
    """A page of `templates`, HTML or Markdown."""
    return _environment(template.endswith(".md")).get_template(template).render(**values)


def escaped(text: str) -> str:
    """`text` as it is, in one line of a Markdown table: no markup, no HTML, no control characters."""
    line = " ".join(harmless(text).split())
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def file_name(instance_id: str) -> str:
    """The name of an instance's page: one that every file system takes, and that no other instance has."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", instance_id).strip(".")[:120]
    if not plain or plain != instance_id:
        digest = hashlib.sha256(instance_id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        plain = f"{plain or 'instance'}-{digest}"
    return f"{plain}.html"


def diff_lines(text: str) -> Iterator[tuple[str, str]]:
    """The lines of a diff, each with its kind: add, del, hunk, head or same."""
    head = True
    for line in cut(text, LONGEST_DIFF).rstrip("\n").split("\n"):
        if line.startswith("diff --git "):
            head = True
        elif line.startswith("@@"):
            head = False
            yield "hunk", line
            continue
        yield ("head" if head else {"+": "add", "-": "del"}.get(line[:1], "same")), line


def cut(text: str, most: int) -> str:
    """The first `most` characters, and how many were left out."""
    return text if len(text) <= most else f"{text[:most]}\n… and {len(text) - most:,} characters more"


def percent(interval: Interval) -> str:
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"


def count(number: float | None) -> str:
    """A number with its thousands apart; a dash where it is not known."""
    if number is None:
        return "–"
    return f"{number:,.0f}" if isinstance(number, int) or abs(number) >= 100 else f"{number:,.1f}"


def value(number: float, kind: str) -> str:
    return f"{number:.0%}".replace("%", " %") if kind == "share" else f"{number:,.1f}"


def signed(number: float, kind: str, unit: str = "") -> str:
    """With its sign, as points for a share."""
    text = f"{100 * number:+.0f}" if kind == "share" else f"{number:+,.1f}"
    return f"{text} {unit}".strip().replace("-", "\N{MINUS SIGN}")


def p_value(number: float | None) -> str:
    if number is None:
        return "–"
    return "< 0.001" if number < 0.001 else f"{number:.3f}"


def words(name: str | None) -> str:
    return (name or "").replace("_", " ")


def tone(said: str | None) -> str:
    """The class that colours a word."""
    return _TONES.get(said or "", "")


def _decision(decision: Decision) -> str:
    said: Mapping[str, Any] = decision.model_dump(mode="json")
    return describe(said)


@cache
def _environment(markdown: bool) -> Environment:
    safe = escaped if markdown else harmless
    environment = Environment(
        loader=PackageLoader("steergraph.evals.reports", "templates"),
        autoescape=not markdown,
        undefined=StrictUndefined,
        finalize=lambda value: safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count, "cut": cut, "decision": _decision, "diff": diff_lines, "p": p_value, "percent": percent,
        "signed": signed, "tone": tone, "value": value, "words": words,
    }  # fmt: skip
    return environment
