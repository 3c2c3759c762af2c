"""How well each router tells domains apart: MMLU-Pro's 14 categories, the roster's own among them, the agents' four.

Knows contrast sets, routers and paired statistics. Every router sees the same training texts and is judged on the same
unseen ones; layer and read position of a probe are chosen on held-out training texts, never on those.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steergraph.agents.router import ask_names, reasoning_domain, shortened
from steergraph.agents.specialists import Roster
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Message
from steergraph.evals.stats import compare, wilson
from steergraph.vectors.compare.probe import Probe, choose_probe, read_sets
from steergraph.vectors.extract.contrast import ContrastSet, load_contrast
from steergraph.vectors.extract.methods import Method
from steergraph.vectors.extract.recipes import load_recipe, sets_from, usable_texts

AGENT_DOMAINS = ("bug_analysis", "code_reading", "patch_writing", "test_reasoning")
FOLDS = 4
PROBING: Mapping[str, Method] = {"activation": "mean_difference", "activation, whitened": "whitened"}
BASELINE = "bag of words"


@dataclass(frozen=True)
class Problem:
    """Texts to learn from and texts to be judged on, all of known domain."""

    sets: tuple[ContrastSet, ...]
    tests: tuple[tuple[str, str], ...]
    """(text, domain)"""

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.sets)


class Score(Frozen):
    """One router on one table."""

    router: str
    right: int
    n: int
    low: float
    high: float
    """Wilson's 95 % interval of the share that is right."""
    against_baseline: float | None
    """p of the exact McNemar test against the bag of words; None for the bag itself."""
    note: str = ""


class Table(Frozen):
    name: str
    domains: tuple[str, ...]
    scores: tuple[Score, ...]


def mmlu_problem(path: str | Path, *, per_group: int | None = None, tests: int = 40) -> Problem:
    """MMLU-Pro's categories, with `tests` questions each that no set has. Raises InputError."""
    recipe = load_recipe("mmlu_pro")
    recipe = recipe.model_copy(update={"per_group": per_group}) if per_group else recipe
    sets = sets_from(recipe, path)
    used = {name for one in sets for name in (*one.positive_ids, *one.neutral_ids)}
    left = usable_texts(recipe, path, used)
    found = tuple((text.text, one.name) for one in sets for text in left.get(one.name, [])[:tests])
    if not found:
        raise InputError(f"{path}: no questions are left to be judged on")
    return Problem(sets, found)


def roster_problem(problem: Problem, roster: Roster) -> Problem:
    """Only the categories that the roster has a specialist for."""
    names = set(roster.reasoning_words)
    kept = tuple(one for one in problem.sets if one.name in names)
    return Problem(kept, tuple(pair for pair in problem.tests if pair[1] in names))


def agent_problems() -> tuple[Problem, ...]:
    """The four agent domains, each text judged once by what was learned from the other folds."""
    whole = [load_contrast(name) for name in AGENT_DOMAINS]
    problems = []
    for fold in range(FOLDS):
        sets = tuple(
            one.model_copy(update={"positives": tuple(t for k, t in enumerate(one.positives) if k % FOLDS != fold)})
            for one in whole
        )
        tests = tuple((t, one.name) for one in whole for k, t in enumerate(one.positives) if k % FOLDS == fold)
        problems.append(Problem(sets, tests))
    return tuple(problems)


def measure(
    name: str,
    problems: Sequence[Problem],
    engine: LocalEngine,
    roster: Roster,
    report: Callable[[str], None] = lambda said: None,
    *,
    ask: bool = True,
) -> Table:
    """Every router on `problems`, which are folds of one; without the `model` router where not `ask`: it is the
    dearest."""
    answers: dict[str, list[bool]] = {}
    notes: dict[str, str] = {}
    habits: dict[tuple[str, ...], list[float]] = {}
    domains = problems[0].domains
    has_rules = set(domains) & set(roster.reasoning_words)
    for problem in problems:
        texts = [text for text, _ in problem.tests]
        truth = [domain for _, domain in problem.tests]
        said: dict[str, Sequence[str]] = {}
        report(f"{name}: listening")
        rows, activations = read_sets(engine.loaded, problem.sets)
        for router, method in PROBING.items():
            probe = choose_probe(engine.loaded, problem.sets, rows, activations, method)
            said[router] = _probed(probe, engine, texts)
            notes[router] = f"layer {probe.layer}, {probe.read}"
        if ask:
            report(f"{name}: model")
            said["model"] = [_best(ask_names(engine, text, domains, habits)) for text in texts]
        if has_rules:
            said["rules"] = [reasoning_domain(text, roster) for text in texts]
            notes["rules"] = f"knows words for {len(has_rules)} of {len(domains)}"
        bag = BagOfWords({one.name: one.positives for one in problem.sets})
        said[BASELINE] = [_best(bag.score(text)) for text in texts]
        for router, given in said.items():
            answers.setdefault(router, []).extend(one == true for one, true in zip(given, truth, strict=True))
    if len(problems) > 1:
        notes = {router: f"last of {len(problems)} folds: {note}" for router, note in notes.items()}
    scores = [_score(router, hits, answers[BASELINE], notes.get(router, "")) for router, hits in answers.items()]
    return Table(name=name, domains=domains, scores=tuple(scores))


class BagOfWords:
    """Multinomial naive Bayes over lower-case words, with add-one smoothing: what counting words alone can do."""

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self._counts = {name: Counter(word for text in given for word in _words(text)) for name, given in texts.items()}
        self._vocabulary = len(set().union(*self._counts.values()))
        total = sum(map(len, texts.values()))
        self._priors = {name: math.log(len(given) / total) for name, given in texts.items()}

    def score(self, text: str) -> dict[str, float]:
        """Log-probability of each name up to a constant."""
        words = _words(text)
        scores = {}
        for name, counts in self._counts.items():
            size = math.log(counts.total() + self._vocabulary + 1)
            scores[name] = self._priors[name] + sum(math.log(counts[word] + 1) - size for word in words)
        return scores


def _probed(probe: Probe, engine: LocalEngine, texts: Sequence[str]) -> list[str]:
    short = [shortened(text, lambda text: (Message(role="user", content=text),), engine) for text in texts]
    return [_best(scores) for scores in probe.score_texts(engine.loaded, short)]


def _score(router: str, hits: Sequence[bool], baseline: Sequence[bool], note: str) -> Score:
    share = wilson(sum(hits), len(hits))
    p = None if router == BASELINE else compare([float(h) for h in hits], [float(h) for h in baseline]).p
    return Score(
        router=router, right=sum(hits), n=len(hits), low=share.low, high=share.high, against_baseline=p, note=note
    )


def _best(scores: Mapping[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]{2,}|\d+", text.lower())
