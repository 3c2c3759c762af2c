"""Who is speaking? A classifier that tells the specialists' registers apart by how an answer is written.

Multinomial logistic regression (L2) over the presence of words, numbers, signs and pairs of neighbours, learnt from
pocket's generated corpus. There is no list of key words: what marks a register is found in the texts. Knows texts and
labels. Knows nothing of models or steering.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.corpus.samples import (
    Sample,
    calendar_sample,
    copy_sample,
    patch_sample,
    plain_sample,
    reasoning_sample,
    speech_sample,
)
from training.corpus.vocabulary import TRAIN

REGISTERS = ("bug_analysis", "test_reasoning", "code_reading", "patch_writing", "math", "law", "history", "calendar")
OTHER = "other"
"""Small talk, repeated words, other subjects: what speaks in none of the registers."""
_PIECES = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_+")


@dataclass(frozen=True)
class Registers:
    """A fitted classifier. Two made from the same texts are equal."""

    labels: tuple[str, ...]
    vocabulary: dict[str, int]
    weights: Tensor
    """[features + 1, labels]; the last row is the bias."""

    def tell(self, texts: Sequence[str]) -> list[str]:
        """The likeliest label of each text; OTHER for an empty one."""
        if not texts:
            return []
        scores = _matrix(texts, self.vocabulary) @ self.weights
        best = scores.argmax(dim=1).tolist()
        return [self.labels[at] if text.strip() else OTHER for at, text in zip(best, texts, strict=True)]


def fit(pairs: Iterable[tuple[str, str]], *, smallest: int = 3, penalty: float = 1e-4) -> Registers:
    """Fit on (text, label) pairs; features that fewer than `smallest` texts have are left out.

    Full-batch L-BFGS on the mean cross entropy plus `penalty` times the squared weights: no randomness.
    """
    known = list(pairs)
    counts = Counter(feature for text, _ in known for feature in set(_features(text)))
    vocabulary = {name: at for at, name in enumerate(sorted(n for n, count in counts.items() if count >= smallest))}
    labels = tuple(sorted({label for _, label in known}))
    x = _matrix([text for text, _ in known], vocabulary)
    y = torch.tensor([labels.index(label) for _, label in known])
    weights = torch.zeros(x.shape[1], len(labels), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weights, y) + penalty * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return Registers(labels, vocabulary, weights.detach())


def corpus_registers(seed: int | str, n: int = 120) -> Registers:
    """Fitted on `n` generated answers of each register, and as many of others."""
    return fit(corpus_texts(seed, n))


def corpus_texts(seed: int | str, n: int) -> list[tuple[str, str]]:
    """`n` answers of every label, drawn from the corpus' generators with a seed of their own."""
    return [(draw_register(label, seed, index).answer, label) for label in (*REGISTERS, OTHER) for index in range(n)]


def draw_register(label: str, seed: int | str, index: int) -> Sample:
    """Sample `index` of a register: prompt and answer as the corpus has them, none that training drew."""
    rng = random.Random(f"{seed}/register/{label}/{index}")
    while True:
        if label in ("bug_analysis", "test_reasoning"):
            return speech_sample(rng, label, 0, "seen")
        if label == "code_reading":
            sample = speech_sample(rng, label, 1, "seen")
            if "is not shown" not in sample.answer:
                return sample
        elif label == "patch_writing":
            sample = patch_sample(rng, "seen", 1, notes=False)
            if sample.scene is not None:
                return sample
        elif label == "calendar":
            return calendar_sample(rng)
        elif label == OTHER:
            sample = rng.choice((plain_sample, copy_sample, reasoning_sample))(rng, TRAIN)
            if sample.kind not in REGISTERS:
                return sample
        else:
            sample = reasoning_sample(rng, TRAIN)
            if sample.kind == label:
                return sample


def _features(text: str) -> list[str]:
    pieces = ["0" if piece.isdigit() else piece.lower() for piece in _PIECES.findall(text)]
    return [*pieces, *(f"{a} {b}" for a, b in zip(["^", *pieces], [*pieces, "$"], strict=True))]


def _matrix(texts: Sequence[str], vocabulary: dict[str, int]) -> Tensor:
    x = torch.zeros(len(texts), len(vocabulary) + 1)
    x[:, -1] = 1
    for row, text in enumerate(texts):
        present = [vocabulary[name] for name in set(_features(text)) if name in vocabulary]
        x[row, present] = 1
    return x
