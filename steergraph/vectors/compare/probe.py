"""Probes: which domain a prompt is of, by the projection of its residual on the vectors that also steer.

Knows contrast sets, vectors and a model's activations. Knows nothing of specialists or tasks: domains are scored by
name. The same scores, held against a threshold, make steering conditional.

A score is a log-odds in nats: with u the unit direction, m+ and m- the two sides' mean projections and s their standard
deviation within the sides (both on the texts that made the vector), (m+ - m-) (h u - (m+ + m-) / 2) / s^2. Layer and
read position are chosen once for all domains, by their mean AUROC on held-out texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.activations import ReadPosition
from steergraph.engine.activations.sequences import Activations, Report
from steergraph.engine.activations.texts import text_activations
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.steering.records import Steering
from steergraph.vectors.extract.contrast import ContrastSet
from steergraph.vectors.extract.methods import Method, auroc_of, direction

POSITIONS: tuple[ReadPosition, ...] = ("last_prompt_token", "prompt_mean")


class Condition(Frozen):
    """When a domain counts as present: its score is at least `threshold`."""

    domain: str
    threshold: float
    """In nats of log-odds; the one of the best balanced accuracy on held-out texts."""
    balanced_accuracy: float
    """On those texts, which it was chosen on: a little too good."""
    n: int
    """Held-out texts it was chosen on."""

    def fires(self, scores: Mapping[str, float]) -> bool:
        return scores[self.domain] >= self.threshold


@dataclass(frozen=True)
class Probe:
    """Directions of several domains at one layer and read position, and what their projections mean."""

    model: str
    revision: str
    domains: tuple[str, ...]
    layer: int
    read: ReadPosition
    units: torch.Tensor
    """[domains, hidden], float32, length 1."""
    middle: torch.Tensor
    """[domains]: half way between the two sides' mean projections."""
    slope: torch.Tensor
    """[domains]: nats of log-odds for each unit of projection."""
    auroc: Mapping[str, float]
    """On held-out texts: the domain's own against those of the other domains and its neutral ones."""
    conditions: Mapping[str, Condition]

    def score(self, residuals: torch.Tensor) -> torch.Tensor:
        """Log-odds [n, domains] of residuals [n, hidden] at its layer and read position."""
        return (residuals.float() @ self.units.T - self.middle) * self.slope

    def score_texts(self, loaded: LoadedModel, texts: Sequence[str], *, batch_size: int = 8) -> list[dict[str, float]]:
        """Scores of prompts by domain. Raises InputError where the model is not the one it was learned on."""
        if (loaded.info.name, loaded.info.revision) != (self.model, self.revision):
            raise InputError(f"the probe was learned on {self.model}, not on {loaded.info.name}: learn it again")
        activations = text_activations(loaded, texts, (self.read,), where="prompts", batch_size=batch_size)
        scores = self.score(activations.at[self.read][self.layer])
        return [dict(zip(self.domains, row, strict=True)) for row in scores.tolist()]

    def conditional_steering(
        self, condition: Condition, steering: Steering, loaded: LoadedModel, texts: Sequence[str]
    ) -> list[Steering | None]:
        """Conditional steering: `steering` for the prompts in which `condition` fires, None for the others."""
        return [steering if condition.fires(scores) else None for scores in self.score_texts(loaded, texts)]


def learn_probe(
    loaded: LoadedModel,
    sets: Sequence[ContrastSet],
    *,
    method: Method = "mean_difference",
    positions: Sequence[ReadPosition] = POSITIONS,
    batch_size: int = 8,
    report: Report = lambda count: None,
) -> Probe:
    """Read every text of `sets` once at `positions`, choose the layer and position, and keep what a score needs.

    Raises InputError for fewer than two sets, sets with system prompts or read positions of their own, and where no
    layer tells any side apart.
    """
    rows, activations = read_sets(loaded, sets, positions, batch_size=batch_size, report=report)
    return choose_probe(loaded, sets, rows, activations, method)


def read_sets(
    loaded: LoadedModel,
    sets: Sequence[ContrastSet],
    positions: Sequence[ReadPosition] = POSITIONS,
    *,
    batch_size: int = 8,
    report: Report = lambda count: None,
) -> tuple[dict[str, int], Activations]:
    """(where each text is in the activations, the activations on every text of `sets`, once each). Raises as
    `learn_probe`."""
    if len(sets) < 2 or len({one.name for one in sets}) < len(sets):
        raise InputError("a probe chooses among domains: at least two contrast sets of different names are needed")
    if wrong := next((one for one in sets if one.system is not None or one.question is not None), None):
        raise InputError(
            f"contrast set {wrong.name!r} has a system prompt or a question; a bare prompt can't be scored so"
        )
    texts = list(dict.fromkeys(text for one in sets for side in (one.positives, one.neutrals) for text in side))
    activations = text_activations(
        loaded, texts, positions, where="contrast sets", batch_size=batch_size, report=report
    )
    return {text: row for row, text in enumerate(texts)}, activations


def choose_probe(
    loaded: LoadedModel,
    sets: Sequence[ContrastSet],
    rows: Mapping[str, int],
    activations: Activations,
    method: Method = "mean_difference",
) -> Probe:
    """The same from activations that are at hand; `rows` says where each text is in them."""
    best: tuple[tuple[float, float, int], Probe] | None = None
    for read in activations.at:
        for layer, states in enumerate(activations.at[read]):
            found = _probe_at(loaded, sets, rows, states, layer, read, method)
            if found is None:
                continue
            mean = sum(found.auroc.values()) / len(found.auroc)
            rank = (round(mean, 6), _accuracy(found, sets, rows, states), -layer)
            if best is None or rank > best[0]:
                best = (rank, found)
    if best is None:
        raise InputError(f"{loaded.info.name} does not tell the domains apart at any layer")
    return best[1]


def _probe_at(
    loaded: LoadedModel,
    sets: Sequence[ContrastSet],
    rows: Mapping[str, int],
    states: torch.Tensor,
    layer: int,
    read: ReadPosition,
    method: Method,
) -> Probe | None:
    """The probe at one layer; None where a domain has no direction there."""
    units, middles, slopes = [], [], []
    for one in sets:
        (high, _), (low, _) = (_sides(one, side, rows) for side in ("positives", "neutrals"))
        found, _ = direction(method, states[high], states[low])
        length = found.norm()
        if not bool(length > 1e-5 * states[high].double().norm(dim=1).median()):
            return None
        unit = found / length
        plus, minus = states[high].double() @ unit, states[low].double() @ unit
        spread = torch.cat([plus - plus.mean(), minus - minus.mean()]).square().mean()
        units.append(unit)
        middles.append((plus.mean() + minus.mean()) / 2)
        slopes.append((plus.mean() - minus.mean()) / spread.clamp(min=1e-12))
    bare = Probe(
        model=loaded.info.name,
        revision=loaded.info.revision,
        domains=tuple(one.name for one in sets),
        layer=layer,
        read=read,
        units=torch.stack(units).float(),
        middle=torch.stack(middles).float(),
        slope=torch.stack(slopes).float(),
        auroc={},
        conditions={},
    )
    scores, conditions = {}, {}
    for index, one in enumerate(sets):
        own = bare.score(states[_sides(one, "positives", rows)[1]])[:, index]
        used = {row for side in ("positives", "neutrals") for row in _sides(one, side, rows)[0]}
        others = [row for other in sets if other is not one for row in _sides(other, "positives", rows)[1]]
        unseen = [row for row in dict.fromkeys([*others, *_sides(one, "neutrals", rows)[1]]) if row not in used]
        rest = bare.score(states[unseen])[:, index]
        scores[one.name] = auroc_of(own, rest)
        conditions[one.name] = _condition(one.name, own, rest)
    return replace(bare, auroc=scores, conditions=conditions)


def _sides(contrast: ContrastSet, side: str, rows: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """(rows of the texts that make the direction, rows of the held-out ones)."""
    texts = contrast.positives if side == "positives" else contrast.neutrals
    held = set(contrast.held_out[0 if side == "positives" else 1])
    return (
        [rows[text] for index, text in enumerate(texts) if index not in held],
        [rows[text] for index, text in enumerate(texts) if index in held],
    )


def _condition(domain: str, own: torch.Tensor, rest: torch.Tensor) -> Condition:
    """The threshold half way between two neighbouring scores at which the two sides are told apart best."""
    values = torch.cat([own, rest]).unique()  # type: ignore[no-untyped-call]
    ends = torch.stack([values[0] - 1, values[-1] + 1])
    candidates = torch.cat([ends[:1], (values[1:] + values[:-1]) / 2, ends[1:]])
    hits = (own[None, :] >= candidates[:, None]).float().mean(dim=1)
    passes = (rest[None, :] < candidates[:, None]).float().mean(dim=1)
    balanced = (hits + passes) / 2
    best = int(balanced.argmax())
    return Condition(
        domain=domain,
        threshold=float(candidates[best]),
        balanced_accuracy=float(balanced[best]),
        n=len(own) + len(rest),
    )


def _accuracy(probe: Probe, sets: Sequence[ContrastSet], rows: Mapping[str, int], states: torch.Tensor) -> float:
    """Share of held-out positives whose own domain scores highest: breaks ties of the AUROC."""
    right = total = 0
    for index, one in enumerate(sets):
        found = probe.score(states[_sides(one, "positives", rows)[1]]).argmax(dim=1)
        right, total = right + int((found == index).sum()), total + len(found)
    return right / total if total else 0.0
