"""What a sweep's rows say: a score for every cell, the cells that are chosen, and whether they hold on other items.

A cell is chosen on the select split and reported on the report split, against the unsteered arm on the same items, with
Holm's correction over all comparisons of the table. Knows rows and cells. Knows nothing of models or figures.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, Literal

from steergraph.base.records import Frozen
from steergraph.engine.steering.records import Unit
from steergraph.evals.lab.experiment import Answer
from steergraph.evals.lab.ids import BASELINE, Cell, ItemId, Source
from steergraph.evals.lab.sweep import Coherent
from steergraph.evals.lab.tasks import Prompt
from steergraph.evals.stats import Comparison, compare, corrected

Goal = Literal["register", "task"]
"""What a cell is chosen for: that the answer to an open prompt is in the domain's register, or that the answer to the
specialist's own prompt is right."""
GOALS: Mapping[Prompt, Goal] = {"open": "register", "own": "task"}
Pair = tuple[ItemId, Answer, Answer]
"""An item's row, and its unsteered one."""


class CellScore(Frozen):
    """One arm on one domain's items under one prompt."""

    domain: str
    prompt: Prompt
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


class SweepResult(Frozen):
    """Everything a sweep found."""

    manifest: dict[str, Any]
    classifier: dict[str, Any]
    """Shares right with Wilson intervals: on generated texts, and on the model's own unsteered answers."""
    table: tuple[CellScore, ...]
    found: tuple[Found, ...]
    late: tuple[Thirds, ...]


ByArm = Mapping[tuple[str, Prompt, str], Mapping[ItemId, Answer]]
"""Rows by item, of each domain, prompt and arm."""


def by_arm(rows: Iterable[Answer]) -> ByArm:
    """The rows of a sweep, in their order."""
    grouped: dict[tuple[str, Prompt, str], dict[ItemId, Answer]] = defaultdict(dict)
    for row in rows:
        item = ItemId.parse(row.item)
        grouped[item.domain, item.prompt, row.arm][item] = row
    return grouped


def scores(rows: Iterable[Answer], cells: Mapping[str, Sequence[Cell]]) -> list[CellScore]:
    """A score for every (domain, prompt, arm) of the rows, in their order."""
    known = _by_name(cells)
    answers = by_arm(rows)
    table = []
    for (domain, prompt, arm), some in answers.items():
        plain = answers[domain, prompt, BASELINE]
        nats = [row.metrics["nats"] for row in some.values() if "nats" in row.metrics]
        table.append(
            CellScore(
                domain=domain,
                prompt=prompt,
                cell=known.get((domain, arm)),
                n=len(some),
                register_rate=fmean(row.metrics["domain"] for row in some.values()),
                accuracy=fmean(row.metrics["accurate"] for row in some.values()),
                changed=fmean(row.text != plain[item].text for item, row in some.items()),
                repetition=fmean(row.metrics["repetition"] for row in some.values()),
                nats=median(nats) if nats else None,
                relative_dose=median(row.relative_dose for row in some.values()),
            )
        )
    return table


def _by_name(cells: Mapping[str, Sequence[Cell]]) -> dict[tuple[str, str], Cell]:
    return {(domain, str(cell)): cell for domain, some in cells.items() for cell in some}


def coherent(score: CellScore, plain: CellScore, bounds: Coherent) -> bool:
    """Whether the answers repeat little more, and cost the unsteered model little more, than its own."""
    if score.repetition - plain.repetition > bounds.repetition or score.nats is None:
        return False
    return score.nats - (plain.nats or 0.0) <= bounds.nats


def choose(table: Iterable[CellScore], bounds: Coherent) -> list[Found]:
    """For each domain, source of vectors and goal the coherent cell with the best score; of equals the smallest dose.

    Where no cell is coherent there is none."""
    by_prompt: dict[tuple[str, Prompt], list[CellScore]] = defaultdict(list)
    for score in table:
        by_prompt[score.domain, score.prompt].append(score)
    found = []
    for (domain, prompt), some in by_prompt.items():
        goal = GOALS[prompt]
        plain = next(score for score in some if score.cell is None)
        fit: dict[Source, list[tuple[CellScore, Cell]]] = defaultdict(list)
        for score in some:
            if score.cell and coherent(score, plain, bounds):
                fit[score.cell.source].append((score, score.cell))
        for pairs in fit.values():
            best, cell = max(pairs, key=lambda one: (_value(one[0]), -one[0].relative_dose, str(one[1])))
            found.append(
                Found(
                    domain=domain,
                    goal=goal,
                    cell=cell,
                    chosen_on=best.n,
                    chosen_score=_value(best),
                    baseline_score=_value(plain),
                    relative_dose=best.relative_dose,
                )
            )
    return found


def _value(score: CellScore) -> float:
    return score.register_rate if score.prompt == "open" else score.accuracy


def judged(found: Sequence[Found], rows: Iterable[Answer]) -> list[Found]:
    """The chosen cells with their comparisons on the report split's rows, corrected over all of them."""
    answers = by_arm(rows)
    drafts: dict[tuple[str, Prompt, str], Comparison] = {}
    metrics: tuple[tuple[Prompt, str], ...] = (("open", "domain"), ("own", "accurate"))
    for one in found:
        for prompt, metric in metrics:
            key = (one.domain, prompt, str(one.cell))  # a cell that was chosen for both goals is compared once
            if key in answers and key not in drafts:
                steered, plain = answers[key], answers[one.domain, prompt, BASELINE]
                drafts[key] = compare(*([side[item].metrics[metric] for item in plain] for side in (steered, plain)))
    fixed = dict(zip(drafts, corrected(list(drafts.values())), strict=True))
    return [
        one.model_copy(
            update={
                "register_rate": fixed.get((one.domain, "open", str(one.cell))),
                "accuracy": fixed.get((one.domain, "own", str(one.cell))),
                **_coherence(one, answers),
            }
        )
        for one in found
    ]


def _coherence(one: Found, answers: ByArm) -> dict[str, float | None]:
    """What steering does to the answers themselves, under the prompt that the cell was chosen for."""
    prompt: Prompt = "own" if one.goal == "task" else "open"
    if (one.domain, prompt, str(one.cell)) not in answers:
        return {}
    steered = answers[one.domain, prompt, str(one.cell)]
    pairs = [(steered[item], plain) for item, plain in answers[one.domain, prompt, BASELINE].items()]
    nats = [a.metrics["nats"] - b.metrics["nats"] for a, b in pairs if "nats" in a.metrics and "nats" in b.metrics]
    return {
        "changed": fmean(a.text != b.text for a, b in pairs),
        "repetition": fmean(a.metrics["repetition"] - b.metrics["repetition"] for a, b in pairs),
        "nats": median(nats) if nats else None,
    }


def thirds(rows: Iterable[Answer], cells: Mapping[str, Sequence[Cell]], layers: int) -> list[Thirds]:
    """Late against middle layers for every source, unit and dose, paired by question and corrected together.

    A question counts once: where it is asked with both prompts, its share is the mean of the two."""
    known = _by_name(cells)
    answers = by_arm(rows)
    third = layers // 3
    sides: dict[tuple[Source, Unit, float], tuple[list[Pair], list[Pair]]] = defaultdict(lambda: ([], []))
    for (domain, prompt, arm), some in answers.items():
        cell = known.get((domain, arm))
        if cell is not None and cell.layer >= layers - 2 * third:
            plain = answers[domain, prompt, BASELINE]
            side = sides[cell.source, cell.unit, cell.alpha][cell.layer < layers - third]
            side += [(item, row, plain[item]) for item, row in some.items()]
    drafts = []
    for dose, (late, middle) in sides.items():
        if late and middle:
            opened = [[pair for pair in side if pair[0].prompt == "open"] for side in (late, middle)]
            gain = _held_against(opened[0], opened[1], _added_register) if all(opened) else None
            drafts.append((dose, late, middle, _held_against(late, middle, _changed), gain))
    fixed = iter(corrected([one for draft in drafts for one in draft[3:] if one is not None]))
    return [
        Thirds(
            source=source,
            unit=unit,
            alpha=alpha,
            changed=next(fixed),
            register_gain=next(fixed) if gained else None,
            middle_dose=median(row.relative_dose for _, row, _ in middle),
            late_dose=median(row.relative_dose for _, row, _ in late),
        )
        for (source, unit, alpha), late, middle, _, gained in drafts
    ]


def _changed(row: Answer, plain: Answer) -> float:
    return float(row.text != plain.text)


def _added_register(row: Answer, plain: Answer) -> float:
    return row.metrics["domain"] - plain.metrics["domain"]


def _held_against(late: Iterable[Pair], middle: Iterable[Pair], value: Callable[[Answer, Answer], float]) -> Comparison:
    """The mean of a question's values in the late layers against that in the middle ones."""
    first, second = _by_question(late, value), _by_question(middle, value)
    return compare([first[question] for question in first], [second[question] for question in first])


def _by_question(pairs: Iterable[Pair], value: Callable[[Answer, Answer], float]) -> dict[tuple[str, int], float]:
    by_item: dict[ItemId, list[float]] = defaultdict(list)
    by_question: dict[tuple[str, int], list[float]] = defaultdict(list)
    for item, row, plain in pairs:
        by_item[item].append(value(row, plain))
    for item, values in by_item.items():
        by_question[item.domain, item.number].append(fmean(values))
    return {question: fmean(values) for question, values in by_question.items()}
