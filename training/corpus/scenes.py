"""Files around a defective piece of code, and the passages of them that a reader is shown.

Knows modules, excerpts and their line numbers. Knows nothing of issues, prompts or tokens.
"""

import random
from dataclasses import dataclass

from training.corpus.behaviour import Case
from training.corpus.practice import practice_neighbour, practice_piece
from training.corpus.shapes import pick_defect, pick_shape
from training.corpus.surroundings import Defect, Piece, build_piece
from training.corpus.vocabulary import TRAIN, Words, plural


@dataclass(frozen=True)
class Passage:
    path: str
    first_line: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """What a reader sees: passages, one of which holds the defect at `start` (0-based, in the passage's lines)."""

    passages: tuple[Passage, ...]
    target: int
    fixed: tuple[str, ...]
    """The target passage's lines after the fix."""
    piece: Piece
    module: str
    start: int
    """Where the piece begins in the target passage, 0-based."""

    @property
    def defect(self) -> Defect:
        assert self.piece.defect is not None
        return self.piece.defect


_IMPORTS = (
    "import json",
    "import os",
    "import re",
    "import math",
    "from datetime import date",
    "from collections import defaultdict",
    "from dataclasses import dataclass",
    "from pathlib import Path",
    "import logging",
)


def draw_path(rng: random.Random, words: Words) -> str:
    """A plausible path of a Python module, relative to its repository."""
    module = words.noun(rng)
    if rng.random() < 0.3:
        module += "_" + rng.choice((words.noun(rng), "utils", "tools", "core", "helpers", "io"))
    elif rng.random() < 0.4:
        module = plural(module)
    folder = rng.choice(("", words.noun(rng) + "/", f"src/{words.noun(rng)}/", f"{words.noun(rng)}/{words.noun(rng)}/"))
    return f"{folder}{module}.py"


def _test_piece(rng: random.Random, piece: Piece, words: Words) -> list[str]:
    """A test of the piece; of the defective one it says what is right, whether or not that shows the defect."""
    named = f"def test_{piece.name.lower()}_{rng.choice(words.nouns)}():"
    cases = [case.expected for case in piece.cases if short(case) and not case.expected.raised]
    if cases:
        case = rng.choice(cases)
        return [named, *(f"    {text}" for text in case.before), f"    assert {case.text} == {case.result}"]
    values = ", ".join(
        rng.choice((str(rng.randint(0, 99)), f'"{rng.choice(words.nouns)}"', "[]")) for _ in piece.parameters
    )
    expected = rng.choice((str(rng.randint(0, 200)), "[]", "None", "True", f'"{rng.choice(words.nouns)}"'))
    return [named, f"    assert {piece.name}({values}) == {expected}"]


def short(case: Case, longest: int = 110) -> bool:
    """Whether a reader would take the trouble to write this call down."""
    texts = (*case.expected.before, case.expected.text, case.expected.result, case.actual.result)
    return len(case.expected.before) <= 4 and sum(map(len, texts)) <= 2 * longest and max(map(len, texts)) <= longest


def _module(rng: random.Random, words: Words, pieces: list[Piece]) -> tuple[list[str], list[int]]:
    """The lines of a file with these pieces as they are (wrong ones too), and each piece's first line, 0-based."""
    lines: list[str] = []
    if rng.random() < 0.5:
        lines += [
            f'"""{rng.choice(("Helpers for", "All about", "The", "Working with"))} {plural(words.noun(rng))}."""',
            "",
        ]
    if rng.random() < 0.6:
        lines += [*rng.sample(_IMPORTS, rng.randint(1, 3)), "", ""]
    starts = []
    for i, piece in enumerate(pieces):
        if i:
            lines += ["", ""]
        starts.append(len(lines))
        lines += piece.lines
    return lines, starts


def _written_piece(
    rng: random.Random, words: Words, style: str, hints: bool, held_out_shapes: bool, held_out_families: bool
) -> Piece:
    while True:
        shape, place = pick_defect(rng, held_out_shapes, held_out_families)
        piece = build_piece(rng, words, shape, style, hints, place)
        shown = sum(case.reveals for case in piece.cases) >= 2 if shape.script else True
        if piece.lines != piece.fixed and shown:
            return piece


def draw_scene(
    rng: random.Random,
    words: Words = TRAIN,
    *,
    size: int = 2,
    held_out_shapes: bool = False,
    held_out_families: bool = False,
    hints: bool | None = None,
    split: bool | None = None,
    practice: bool = False,
) -> Scene:
    """A defect and what surrounds it. `size` 0 is the function alone, 1 a few functions, 2 and 3 several passages.

    What the defect does shows in two calls at least, so that one can be told and another kept back. `split` shows the
    file function by function, as retrieval packs it, best first; None draws whether. `practice` draws functions and
    defects that nobody wrote down beside those that are.
    """
    style = rng.choice(("dot", "dot", "key"))
    hints = rng.random() < 0.25 if hints is None else hints
    if practice:
        piece = practice_piece(rng, words, style, hints)
    else:
        piece = _written_piece(rng, words, style, hints, held_out_shapes, held_out_families)

    def neighbour(held_out: bool = False) -> Piece:
        if practice:
            return practice_neighbour(rng, words, style, hints)
        return build_piece(rng, words, pick_shape(rng, held_out), style, hints)

    others = [0, rng.randint(0, 2), rng.randint(0, 3), rng.randint(1, 5)][size]
    pieces = [neighbour(held_out_shapes and rng.random() < 0.5) for _ in range(others)]
    position = rng.randint(0, others)
    pieces.insert(position, piece)
    path = draw_path(rng, words)
    lines, starts = _module(rng, words, pieces) if size else (list(piece.lines), [0])
    start = starts[position]
    fixed = [*lines[:start], *piece.fixed, *lines[start + len(piece.lines) :]]
    low, high = 0, len(lines)
    if size and rng.random() < 0.5:  # an excerpt that begins and ends at the edge of a function
        low = rng.choice([s for s in starts if s <= start])
        high = rng.choice([starts[i] + len(p.lines) for i, p in enumerate(pieces) if starts[i] >= start])
    elif size and rng.random() < 0.2:
        low = max(0, start - rng.randint(0, 6))
        high = min(len(lines), start + len(piece.lines) + rng.randint(0, 6))
    before = 0 if low == 0 and rng.random() < 0.6 else rng.choice((rng.randint(1, 60), rng.randint(1, 300)))
    cut = len(lines) - high
    target = Passage(path, before + low + 1, tuple(lines[low:high]))
    passages = [target]
    start_shown = start - low
    split = bool(size) and rng.random() < 0.5 if split is None else split
    if split:
        passages, target = _split(rng, path, before, lines, starts, pieces, position)
        fixed, low, cut, start_shown = list(piece.fixed), 0, 0, 0
    for _ in range([0, 0, rng.choice((0, 0, 1, 1, 2)), rng.choice((1, 2, 3, 4))][size]):
        kind = rng.random()
        if kind < 0.3:
            folder = rng.choice(("tests/", "test/", ""))
            stem = path.rsplit("/", 1)[-1].removesuffix(".py")
            body = [f"from {path.removesuffix('.py').replace('/', '.')} import {piece.name}", "", ""]
            for tested in rng.sample(pieces, min(len(pieces), rng.randint(1, 3))):
                body += [*_test_piece(rng, tested, words), "", ""]
            passages.append(Passage(f"{folder}test_{stem}.py", 1, tuple(body[:-2])))
            continue
        extra = [neighbour() for _ in range(rng.choice((1, 1, 2, 3)))]
        text, begins = _module(rng, words, extra)
        first = rng.choice((0, begins[0]))
        passages.append(Passage(draw_path(rng, words), first + 1, tuple(text[first:])))
    own = [p for p in passages if p.path == path]
    others_shown = {p.path: p for p in passages if p.path != path}
    passages = [*own, *others_shown.values()]
    rng.shuffle(passages)
    if split and rng.random() < 0.6:
        passages.sort(key=lambda p: p is not target)
    module = path.rsplit("/", 1)[-1].removesuffix(".py")
    return Scene(
        tuple(passages),
        next(at for at, p in enumerate(passages) if p is target),
        tuple(fixed[low : len(fixed) - cut]),
        piece,
        module,
        start_shown,
    )


def _split(
    rng: random.Random,
    path: str,
    before: int,
    lines: list[str],
    starts: list[int],
    pieces: list[Piece],
    position: int,
) -> tuple[list[Passage], Passage]:
    """A file's pieces as passages of their own, some of them left out, and the one with the defect."""
    shown = [Passage(path, before + start + 1, piece.lines) for start, piece in zip(starts, pieces, strict=True)]
    target = shown[position]
    passages = [p for p in shown if p is target or rng.random() < 0.8]
    head = [line for line in lines[: starts[0]] if line.strip()]
    if head and before == 0 and rng.random() < 0.6:
        passages.append(Passage(path, 1, (head[0],)))
    return passages, target
