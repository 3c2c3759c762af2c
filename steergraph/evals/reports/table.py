"""The numbers of a report: each variant summed up, and held against one of them.

Knows facts and statistics. Arms are compared on the same instances or not at all; an improvement is one only where
`stats.Comparison` calls it that after Holm's correction over every comparison of the report.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.evals.reports.measure import Facts
from steergraph.evals.reports.read import Variant
from steergraph.evals.stats import Comparison, Interval, compare, corrected, wilson

Number = TypeVar("Number", int, float)
Value = Callable[[Facts], float | bool | None]
UNITS = {"tokens": "tokens", "seconds": "s", "truncated": "answers"}
"""What the amounts among METRICS are counted in; a share's difference is in points."""
METRICS: dict[str, tuple[str, Value]] = {
    "resolved": ("share", lambda facts: facts.resolved),
    "applies": ("share", lambda facts: facts.applies),
    "found the file": ("share", lambda facts: facts.found),
    "tokens": ("amount", lambda facts: facts.tokens),
    "seconds": ("amount", lambda facts: facts.seconds),
    "truncated": ("amount", lambda facts: facts.truncated),
}
"""What is compared, by name: whether it is a share of instances or an amount, and how it is read."""


class Share(Frozen):
    """So many of those for which it is known."""

    hits: int
    n: int

    @property
    def interval(self) -> Interval:
        return wilson(self.hits, self.n)


class Summary(Frozen):
    """One variant in numbers."""

    label: str
    run: str
    preset: str
    model: str
    expected: int
    finished: int
    resolved: Share
    ungraded: int
    """Finished, and nothing is known of its patch. Not among the unresolved."""
    gold: int
    """Predictions that are the dataset's own patch."""
    patched: Share
    applies: Share
    parses: Share
    in_context: Share
    edited: Share
    found: Share
    lines: float | None
    """Mean share of gold's lines that the patches touch, an empty patch counting 0; None without gold."""
    tokens: int | None
    seconds: float | None
    truncated: int | None
    statuses: dict[str, int]
    verdicts: dict[str, int]
    rules: dict[tuple[str, str], int]

    @property
    def is_gold(self) -> bool:
        """All that it predicts is gold. A model may well find some gold patch of one line."""
        return self.gold > 0 and self.gold == self.patched.hits


class Compared(Frozen):
    """One metric of one variant against the reference."""

    metric: str
    kind: str
    label: str
    against: str
    found: Comparison | None
    why: str = ""
    """Why there is no comparison."""

    @property
    def unit(self) -> str:
        """What a difference is counted in."""
        return UNITS.get(self.metric, "points")

    @property
    def said(self) -> str:
        """The verdict in a word or two. Amounts are neither good nor bad."""
        if self.found is None or self.found.verdict == "not shown":
            return "not shown"
        if self.kind == "amount":
            return "more" if self.found.verdict == "better" else "fewer"
        return self.found.verdict


def summarise(variant: Variant, facts: Mapping[str, Facts]) -> Summary:
    """Sum a variant up; `facts` by instance."""
    every = list(facts.values())
    recalls = [
        0.0 if each.look.lines is None else each.look.lines.recall or 0.0 for each in every if each.edited is not None
    ]
    return Summary(
        label=variant.label,
        run=variant.run,
        preset=variant.preset,
        model=variant.model,
        expected=len(variant.expected),
        finished=len(every),
        resolved=_share(each.resolved for each in every),
        ungraded=sum(each.resolved is None for each in every),
        gold=sum(each.is_gold for each in every),
        patched=_share(not each.look.empty for each in every),
        applies=_share(each.applies for each in every),
        parses=_share(each.look.parses for each in every),
        in_context=_share(each.in_context for each in every),
        edited=_share(each.edited for each in every),
        found=_share(each.found for each in every),
        lines=sum(recalls) / len(recalls) if recalls else None,
        tokens=_sum(each.tokens for each in every),
        seconds=_sum(each.seconds for each in every),
        truncated=_sum(each.truncated for each in every),
        statuses=dict(Counter(each.status for each in every).most_common()),
        verdicts=dict(Counter(each.verdict for each in every if each.verdict).most_common()),
        rules=dict(sum((Counter(each.rules) for each in every), Counter())),
    )


def compare_variants(
    facts: Mapping[str, Mapping[str, Facts]],
    against: str | None = None,
    gold: Sequence[str] = (),
    baselines: Mapping[str, str] | None = None,
) -> list[Compared]:
    """Every variant against its reference in every metric, with Holm's correction over all of the comparisons.

    Args:
        facts: by variant, by instance.
        against: the reference of all; by default each variant's baseline, else the one called `baseline`, or the first.
        gold: variants whose predictions are the gold patch: nothing is compared with those.
        baselines: by variant, the baseline of its own run.

    Raises InputError where `against` is none of the variants.
    """
    if against is not None and against not in facts:
        raise InputError(f"--against {against}: no such variant: there are {', '.join(facts)}")
    honest = [name for name in facts if name not in gold]
    own = {name: base for name, base in (baselines or {}).items() if base in honest} if against is None else {}
    if against is None:
        first = (own[name] for name in facts if name in own)
        against = "baseline" if "baseline" in honest else next(first, (honest or list(facts))[0])
    rows: list[Compared] = []
    for metric, (kind, value) in METRICS.items():
        for name in facts:
            # A baseline is held against the first run's, which says whether the runs can be compared at all.
            base = against if own.get(name, name) == name else own[name]
            if name != base:
                found, why = _compared(facts[name], facts[base], value)
                if {name, base} & set(gold):
                    found, why = None, "the gold patch used as predictions is no result"
                rows.append(Compared(metric=metric, kind=kind, label=name, against=base, found=found, why=why))
    fixed = iter(corrected([row.found for row in rows if row.found]))
    return [row.model_copy(update={"found": next(fixed)}) if row.found else row for row in rows]


def baselines(variants: Sequence[Variant]) -> dict[str, str]:
    """The baseline of each variant's own run, where that has one: its `baseline`, else its `rag_baseline`."""
    found: dict[str, str] = {}
    for variant in variants:
        own = {each.preset: each.label for each in variants if each.run == variant.run}
        base = own.get("baseline") or own.get("rag_baseline")
        if base:
            found[variant.label] = base
    return found


def _compared(first: Mapping[str, Facts], second: Mapping[str, Facts], value: Value) -> tuple[Comparison | None, str]:
    one = {name: value(each) for name, each in first.items()}
    other = {name: value(each) for name, each in second.items()}
    known = [{name for name, it in arm.items() if it is not None} for arm in (one, other)]
    if not known[0] or not known[1]:
        return None, "not known"
    if known[0] != known[1]:
        shared = len(known[0] & known[1])
        return None, f"not known for the same instances: {len(known[0])} and {len(known[1])}, {shared} of them shared"
    names = sorted(known[0])
    pairs = [(float(one[name] or 0), float(other[name] or 0)) for name in names]
    return compare([pair[0] for pair in pairs], [pair[1] for pair in pairs]), ""


def _share(values: Iterable[bool | None]) -> Share:
    known = [value for value in values if value is not None]
    return Share(hits=sum(known), n=len(known))


def _sum(values: Iterable[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
