"""Defective pieces for training alone: of composed functions, of written ones, some with a defect nobody wrote down.

Written functions are few enough to be learnt by heart; a model that has to repair code it has never seen needs code
that it never sees twice. Knows the shares of each. Measuring draws from the written functions only.
"""

import random

from training.corpus.compose import compose
from training.corpus.kept_out import kept_out
from training.corpus.rename import renamed
from training.corpus.shapes import Mark, Shape, pick_defect, pick_shape
from training.corpus.surroundings import Piece, build_piece
from training.corpus.vocabulary import Words

COMPOSED = 0.5
"""The share of pieces that are composed functions."""
MUTATED = 0.4
"""The share of defects made by a random small change, of written functions and of composed ones."""
RENAMED = 0.6
"""The share of pieces whose locals have other names."""
_NONSENSE = ("NameError", "TypeError", "UnboundLocalError", "AttributeError", "SyntaxError")


def practice_piece(rng: random.Random, words: Words, style: str, hints: bool) -> Piece:
    """A piece with a defect that shows in two calls at least, and that the right code does not fail on."""
    while True:
        shape, place, mutate = _drawn(rng)
        if rng.random() < RENAMED:
            shape = renamed(rng, shape, words)
        piece = build_piece(rng, words, shape, style, hints, place, mutate)
        sensible = not any(case.expected.raised in _NONSENSE for case in piece.cases)
        shown = piece.lines != piece.fixed and sum(case.reveals for case in piece.cases) >= 2
        if sensible and shown and _allowed(piece):
            return piece


def practice_neighbour(rng: random.Random, words: Words, style: str, hints: bool) -> Piece:
    """A piece without a defect."""
    while True:
        shape = compose(rng) if rng.random() < COMPOSED else pick_shape(rng)
        if rng.random() < RENAMED:
            shape = renamed(rng, shape, words)
        piece = build_piece(rng, words, shape, style, hints)
        if _allowed(piece):
            return piece


def _drawn(rng: random.Random) -> tuple[Shape, int | None, bool]:
    mutate = rng.random() < MUTATED
    if rng.random() < COMPOSED:
        shape = compose(rng)
        marks = [(part.family, at) for at, part in enumerate(shape.parts) if isinstance(part, Mark)]
        if not marks or mutate:
            return shape, None, True
        family = rng.choice(sorted({family for family, _ in marks}))
        return shape, rng.choice([at for of_mark, at in marks if of_mark == family]), False
    if mutate:
        return pick_shape(rng), None, True
    return (*pick_defect(rng), False)


def _allowed(piece: Piece) -> bool:
    return not any(kept_out("\n".join(side) + "\n") for side in (piece.lines, piece.fixed))
