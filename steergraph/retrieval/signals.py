"""What speaks for a file, as a few numbers from 0 to 1, and the weights that make one score of them.

Knows a corpus and a parsed issue. Knows nothing of passages. The weights are few and were fitted once (see `WEIGHTS`);
whatever else was tried and did not help (history, imports, PageRank, stemming) is in docs/retrieval.md.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import pairwise

import numpy as np

from steergraph.retrieval.corpus import Corpus, Floats
from steergraph.retrieval.fields import Scored
from steergraph.retrieval.mentions import Places, called, frames_in, is_auxiliary, pointed_at
from steergraph.retrieval.query import Query

SIGNALS = ("terms", "functions", "defines", "pointed", "called", "auxiliary")
WEIGHTS: Mapping[str, float] = {
    "terms": 2.5,
    "functions": 2.4,
    "defines": 1.2,
    "pointed": 1.1,
    "called": 0.9,
    "auxiliary": -1.0,
}
"""Of each of SIGNALS: `steergraph bench retrieval --fit` over 93 instances of six repositories, rounded."""
_SHOWN_TERMS, _SHOWN_NAMES = 6, 3


class Signals:
    """The signals of every file of `corpus` for `query`."""

    def __init__(self, corpus: Corpus, query: Query) -> None:
        self.corpus = corpus
        self.query = query
        self.scored = Scored(corpus, query.weights())
        self.places = Places(corpus.paths)
        self.pointed = pointed_at(self.places, query)
        self.frames = frames_in(self.places, query)

    @cached_property
    def table(self) -> Floats:
        """[files, signals], each column from 0 to 1; what is said of the best file is 1."""
        size = len(self.corpus.paths)
        pointed = np.zeros(size)
        for at, (worth, _) in self.pointed.items():
            pointed[at] = worth
        columns = [
            _relative(self.scored.files),
            _relative(self.scored.pooled()),
            _relative(self._defines()),
            pointed,
            _relative(self._called()),
            np.array([float(is_auxiliary(path)) for path in self.corpus.paths]),
        ]
        return np.stack(columns, axis=1) if size else np.zeros((0, len(SIGNALS)))

    def scores(self, weights: Mapping[str, float] = WEIGHTS) -> Floats:
        """[files] The weighted sum; 0 for a file that nothing speaks for."""
        worth = self.table @ np.array([weights[name] for name in SIGNALS])
        spoken_for = (self.table[:, :-1] > 0).any(axis=1)
        return np.where(spoken_for, worth, 0.0)

    def why(self, doc: int, weights: Mapping[str, float] = WEIGHTS) -> tuple[str, ...]:
        """A line for each signal that moved the score of file `doc`: how much, by which terms, names or mentions."""
        details: dict[str, Callable[[int], str]] = {
            "terms": self._terms_line,
            "functions": self._functions_line,
            "defines": lambda at: ", ".join(sorted(self._names_defined[at])[:_SHOWN_NAMES]),
            "pointed": lambda at: self.pointed[at][1],
            "called": lambda at: ", ".join(sorted(called(self.corpus.paths[at]) & self.query.weights().keys())),
            "auxiliary": lambda at: "tests, documentation, tools or another project's code",
        }
        lines = []
        for name, value in zip(SIGNALS, self.table[doc].tolist(), strict=True):
            if value and weights[name]:
                lines.append(f"{value * weights[name]:+.2f} {name}: {details[name](doc)}")
        return tuple(lines)

    def _terms_line(self, doc: int) -> str:
        return ", ".join(
            f"{term} {share:.0%} ({' '.join(fields)})"
            for term, share, fields in self.scored.terms_of(doc)[:_SHOWN_TERMS]
        )

    def _functions_line(self, doc: int) -> str:
        start, end = self.corpus.first_leaf[doc], self.corpus.first_leaf[doc + 1]
        best = np.argsort(-self.scored.leaves[start:end], kind="stable")[:_SHOWN_NAMES]
        blob = self.corpus.blobs[doc]
        return ", ".join(blob.names[at] or f"lines {blob.first[at]}-{blob.last[at]}" for at in best)

    @cached_property
    def _names_defined(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = defaultdict(set)
        asked = {name.lower(): name for name in self.query.names}
        for doc, term in self.scored.defined().tolist():
            if name := asked.get(self.scored.terms[term]):
                found[doc].add(name)
        qualified = self._qualified
        for doc, names in qualified.items():
            found[doc] |= names
        return found

    @cached_property
    def _qualified(self) -> dict[int, set[str]]:
        """Files with a leaf that is called as two neighbouring parts of a dotted name of the issue, `Class.method`."""
        pairs = {
            f"{one}.{two}"
            for dotted in self.query.dotted
            for parts in [dotted.split(".")]
            for one, two in pairwise(parts)
        }
        found: dict[int, set[str]] = defaultdict(set)
        if pairs:
            for doc, blob in enumerate(self.corpus.blobs):
                for name in pairs.intersection(blob.names):
                    found[doc].add(name)
        return found

    def _defines(self) -> Floats:
        """Names of the issue that a file defines: the rarer, the more; `Class.method` at least as much as a name that
        one file defines."""
        size = len(self.corpus.paths)
        worth = np.zeros(size)
        asked: dict[str, float] = defaultdict(float)
        for name, times in self.query.names.items():
            asked[name.lower()] += times
        pairs = self.scored.defined()
        spread = Counter(pairs[:, 1].tolist())
        for doc, term in pairs.tolist():
            if often := asked.get(self.scored.terms[term]):
                n = spread[term]
                worth[doc] += math.sqrt(min(often, 3.0)) * math.log(1 + size / n) / math.sqrt(n)
        owners = Counter(name for names in self._qualified.values() for name in names)
        for doc, names in self._qualified.items():
            worth[doc] += sum(math.log(1 + size) / owners[name] for name in names)
        return worth

    def _called(self) -> Floats:
        """How much of a file's own name the issue says, its terms weighted by how rare they are in names."""
        names = [called(path) for path in self.corpus.paths]
        spread = Counter(term for name in names for term in name)
        asked = self.query.weights()
        worth = np.zeros(len(names))
        for doc, name in enumerate(names):
            rare = {term: math.log(1 + len(names) / spread[term]) for term in name}
            if total := sum(rare.values()):
                worth[doc] = sum(rare[term] * min(1.0, asked[term] / 2) for term in name if term in asked) / total
        return worth


def _relative(values: Floats) -> Floats:
    most = values.max() if len(values) else 0.0
    return values / most if most > 0 else np.zeros(len(values))
