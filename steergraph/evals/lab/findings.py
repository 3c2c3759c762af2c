"""What a sweep's rows say: a score for every cell, the cells that are chosen, and whether they hold on other items.

A cell is chosen on the select split and reported on the report split, against the unsteered arm on the same items, with
Holm's correction over all comparisons of the table. Knows rows and cells. Knows nothing of models or figures.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Literal

from steergraph.base.records import Frozen
from steergraph.engine.steering.records import Unit
from steergraph.evals.lab.experiment import Row
from steergraph.evals.lab.sweep import BASELINE, Cell, Coherent, Source
from steergraph.evals.stats import Comparison, compare, corrected

Goal = Literal["register", "task"]
"""What a cell is chosen for: that the answer to an open prompt is in the domain's register, or that the answer to the
specialist's own prompt is right."""


class CellScore(Frozen):
    """One arm on one domain's items under one prompt."""

    domain: str
    prompt: str
    cell: Cell | None
    """None: unsteered."""
    n: int
    register_rate: float
    """Share of answers that the classifier puts in the domain's register."""
    accuracy: float
    changed: float
    """Share of answers that differ from the unsteered ones."""
    repetition: float
    nats: float | None
    """Median over the items on which it was taken: nats a token of the answer costs the unsteered model."""
    relative_dose: float
    """Median over items."""


class Found(Frozen):
    """A chosen cell, and what other items say of it."""

    domain: str
    goal: Goal
    cell: Cell
    chosen_on: int
    """Items of the select split."""
    chosen_score: float
    baseline_score: float
    """On the select split, too."""
    relative_dose: float
    register_rate: Comparison | None = None
    """Open prompt, report split, against unsteered; None where that prompt was not asked."""
    accuracy: Comparison | None = None
    """The specialist's own prompt, report split, against unsteered."""
    changed: float | None = None
    """Share of answers that differ from the unsteered ones, report split, under the prompt it was chosen for."""
    repetition: float | None = None
    """Added share of repeated 4-grams there."""
    nats: float | None = None
    """Added nats a token that its answers cost the unsteered model there: the median of the paired differences."""


class Thirds(Frozen):
    """Late layers against middle ones, at one dose in one unit: the last third of the blocks and the one before it."""

    source: Source
    unit: Unit
    alpha: float
    changed: Comparison
    """Share of a question's cells there whose answer differs from the unsteered one; `first` is the late third."""
    register_gain: Comparison | None
    """Added share of a question's cells there that speak in the domain's register; None where no prompt was open."""
    middle_dose: float
    late_dose: float
    """Median relative doses."""


def scores(rows: Iterable[Row], cells: Mapping[str, Sequence[Cell]]) -> list[CellScore]:
    """A score for every (domain, prompt, arm) of the rows, in their order."""
    known = {(domain, cell.arm.name): cell for domain, some in cells.items() for cell in some}
    grouped: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        domain, prompt = row.item.split("/")[:2]
        grouped[domain, prompt, row.arm].append(row)
    plain = {row.item: row.text for key, some in grouped.items() if key[2] == BASELINE for row in some}
    return [
        CellScore(
            domain=domain,
            prompt=prompt,
            cell=known.get((domain, arm)),
            n=len(some),
            register_rate=fmean(row.metrics["domain"] for row in some),
            accuracy=fmean(row.metrics["accurate"] for row in some),
            changed=fmean(row.text != plain[row.item] for row in some),
            repetition=fmean(row.metrics["repetition"] for row in some),
            nats=median(nats) if (nats := [row.metrics["nats"] for row in some if "nats" in row.metrics]) else None,
            relative_dose=median(row.relative_dose for row in some),
        )
        for (domain, prompt, arm), some in grouped.items()
    ]


def coherent(score: CellScore, plain: CellScore, bounds: Coherent) -> bool:
    """Whether the answers repeat little more, and cost the unsteered model little more, than its own."""
    if score.repetition - plain.repetition > bounds.repetition or score.nats is None:
        return False
    return score.nats - (plain.nats or 0.0) <= bounds.nats


def choose(table: Iterable[CellScore], bounds: Coherent) -> list[Found]:
    """For each domain, source of vectors and goal the coherent cell with the best score; of equals the smallest dose.

    Where no cell is coherent there is none."""
    by_prompt: dict[tuple[str, str], list[CellScore]] = defaultdict(list)
    for score in table:
        by_prompt[score.domain, score.prompt].append(score)
    found = []
    for (domain, prompt), some in by_prompt.items():
        goal: Goal = "register" if prompt == "open" else "task"
        plain = next(score for score in some if score.cell is None)
        fit: dict[Source, list[tuple[CellScore, Cell]]] = defaultdict(list)
        for score in some:
            if score.cell and coherent(score, plain, bounds):
                fit[score.cell.source].append((score, score.cell))
        for pairs in fit.values():
            best, cell = max(pairs, key=lambda one: (_value(one[0], goal), -one[0].relative_dose, one[1].arm.name))
            found.append(
                Found(
                    domain=domain,
                    goal=goal,
                    cell=cell,
                    chosen_on=best.n,
                    chosen_score=_value(best, goal),
                    baseline_score=_value(plain, goal),
                    relative_dose=best.relative_dose,
                )
            )
    return found


def _value(score: CellScore, goal: Goal) -> float:
    return score.register_rate if goal == "register" else score.accuracy


def judged(found: Sequence[Found], rows: Iterable[Row]) -> list[Found]:
    """The chosen cells with their comparisons on the report split's rows, corrected over all of them."""
    values: dict[tuple[str, str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        domain, prompt = row.item.split("/")[:2]
        values[domain, prompt, row.arm][row.item] = row
    compared: dict[tuple[str, str, str], Comparison] = {}
    coherence: dict[int, dict[str, float | None]] = {}
    for at, one in enumerate(found):
        for prompt, metric, name in (("open", "domain", "register_rate"), ("own", "accurate", "accuracy")):
            steered, plain = values[one.domain, prompt, one.cell.arm.name], values[one.domain, prompt, BASELINE]
            key = (one.domain, name, one.cell.arm.name)  # a cell that was chosen for both goals is compared once
            if steered and key not in compared:
                pair = [[side[item].metrics[metric] for item in plain] for side in (steered, plain)]
                compared[key] = compare(*pair)
        asked = "own" if one.goal == "task" else "open"
        steered, plain = values[one.domain, asked, one.cell.arm.name], values[one.domain, asked, BASELINE]
        if steered:
            coherence[at] = _coherence([(steered[item], plain[item]) for item in plain])
    fixed = dict(zip(compared, corrected(list(compared.values())), strict=True))
    return [
        one.model_copy(
            update={
                "register_rate": fixed.get((one.domain, "register_rate", one.cell.arm.name)),
                "accuracy": fixed.get((one.domain, "accuracy", one.cell.arm.name)),
                **coherence.get(at, {}),
            }
        )
        for at, one in enumerate(found)
    ]


def _coherence(pairs: Sequence[tuple[Row, Row]]) -> dict[str, float | None]:
    """What steering does to the answers themselves; pairs are (steered, unsteered) of an item."""
    priced = [
        steered.metrics["nats"] - plain.metrics["nats"]
        for steered, plain in pairs
        if "nats" in steered.metrics and "nats" in plain.metrics
    ]
    return {
        "changed": fmean(steered.text != plain.text for steered, plain in pairs),
        "repetition": fmean(steered.metrics["repetition"] - plain.metrics["repetition"] for steered, plain in pairs),
        "nats": median(priced) if priced else None,
    }


def thirds(rows: Iterable[Row], cells: Mapping[str, Sequence[Cell]], layers: int) -> list[Thirds]:
    """Late against middle layers for every source, unit and dose, paired by question and corrected together.

    A question counts once: where it is asked with both prompts, its share is the mean of the two."""
    known = {(domain, cell.arm.name): cell for domain, some in cells.items() for cell in some}
    late, middle = range(layers - layers // 3, layers), range(layers - 2 * (layers // 3), layers - layers // 3)
    listed = list(rows)
    plain = {row.item: row for row in listed if row.arm == BASELINE}
    grouped: dict[tuple[Source, Unit, float], dict[str, dict[str, list[Row]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in listed:
        cell = known.get((row.item.split("/", 1)[0], row.arm))
        if cell is not None and (cell.layer in late or cell.layer in middle):
            where = "late" if cell.layer in late else "middle"
            grouped[cell.source, cell.unit, cell.alpha][row.item][where].append(row)
    drafts = []
    for (source, unit, alpha), items in grouped.items():
        both = {item: sides for item, sides in items.items() if sides["late"] and sides["middle"]}
        if not both:
            continue
        changed = _sides(both, lambda row: float(row.text != plain[row.item].text))
        opened = {item: sides for item, sides in both.items() if item.split("/")[1] == "open"}
        gain = _sides(opened, lambda row: row.metrics["domain"] - plain[row.item].metrics["domain"])
        doses = [
            median(row.relative_dose for sides in both.values() for row in sides[where]) for where in ("middle", "late")
        ]
        drafts.append((source, unit, alpha, doses, compare(*changed), compare(*gain) if opened else None))
    fixed = iter(corrected([one for draft in drafts for one in draft[4:] if one is not None]))
    return [
        Thirds(
            source=source,
            unit=unit,
            alpha=alpha,
            changed=next(fixed),
            register_gain=next(fixed) if gained else None,
            middle_dose=doses[0],
            late_dose=doses[1],
        )
        for source, unit, alpha, doses, _, gained in drafts
    ]


def _sides(
    items: Mapping[str, Mapping[str, Sequence[Row]]], value: Callable[[Row], float]
) -> tuple[list[float], list[float]]:
    questions: dict[tuple[str, ...], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for item, sides in items.items():
        domain, _, *rest = item.split("/")
        for at, where in enumerate(("late", "middle")):
            questions[domain, *rest][at].append(fmean(value(row) for row in sides[where]))
    late, middle = zip(*questions.values(), strict=True) if questions else ((), ())
    return [fmean(some) for some in late], [fmean(some) for some in middle]
