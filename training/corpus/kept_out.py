"""Code that practice must not draw: runs of tokens of the example repository, and the held-out functions.

Knows how code looks once its names are gone. The example repository is no part of the package, so hashes of its runs
stand in `shapes/kept_out.txt`; `python -m training.corpus.kept_out examples` prints them.
"""

import argparse
import hashlib
import io
import keyword
import sys
import tokenize
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from steergraph.base.errors import InputError
from training.corpus.shapes import shapes
from training.corpus.surroundings import plain_code

RUN = 12
"""Tokens in a run."""
_KINDS = {tokenize.STRING: "STRING", tokenize.NUMBER: "NUMBER", tokenize.NEWLINE: "NEWLINE"}
_SKIPPED = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT)
_PLAIN = frozenset(
    ("NAME", ".", ",", "(", ")", "[", "]", "=", ":", "NEWLINE", "return", "for", "in", "STRING", "NUMBER")
)


def stretches(text: str) -> list[list[str]]:
    """Stretches of Python tokens, every name that is not a keyword as NAME and every literal as its kind.

    A stretch ends at the lines that are the same in all Python once the names are gone: `def`, `class` and `import`
    lines, decorators, and docstrings. Raises SyntaxError or tokenize.TokenError where `text` is no Python.
    """
    found: list[list[str]] = [[]]
    line: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _SKIPPED:
            continue
        name = token.type == tokenize.NAME and not keyword.iskeyword(token.string)
        line.append("NAME" if name else _KINDS.get(token.type, token.string))
        if token.type == tokenize.NEWLINE:
            if line[0] in ("def", "class", "import", "from", "@") or line == ["STRING", "NEWLINE"]:
                found.append([])
            else:
                found[-1] += line
            line = []
    return found


def runs(text: str) -> set[tuple[str, ...]]:
    """Every run of 12 tokens in which something is computed, compared or decided."""
    whole = {tuple(part[i : i + RUN]) for part in stretches(text) for i in range(len(part) - RUN + 1)}
    return {run for run in whole if not set(run) <= _PLAIN}


def digest(run: tuple[str, ...]) -> str:
    """The first 12 hex digits of a run's SHA-256."""
    return hashlib.sha256(" ".join(run).encode()).hexdigest()[:12]


@cache
def _example() -> frozenset[str]:
    text = files("training.corpus").joinpath("shapes", "kept_out.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


@cache
def _held_out() -> frozenset[tuple[str, ...]]:
    bodies = set()
    for shape in shapes():
        if shape.held_out:
            bodies |= {_body(plain_code(shape.right, style)) for style in ("dot", "key")}
    return frozenset(bodies)


def _body(text: str) -> tuple[str, ...]:
    return tuple(token for part in stretches(text) for token in part)


def kept_out(text: str) -> bool:
    """Whether practice must not show `text`, a function or class."""
    try:
        return _body(text) in _held_out() or any(digest(run) in _example() for run in runs(text))
    except (SyntaxError, tokenize.TokenError):
        return True


def example_runs(folder: Path) -> set[tuple[str, ...]]:
    """The runs of the example repository's Python and of its hidden tests. Raises InputError where there is none."""
    sources = sorted([*folder.glob("pantry/**/*.py"), *folder.glob("hidden/*.py")])
    if not sources:
        raise InputError(f"{folder}: no Python of the example repository; name the checkout's folder `examples`")
    return {run for path in sources for run in runs(path.read_text(encoding="utf-8") + "\n")}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.corpus.kept_out", description="Print the hashes that shapes/kept_out.txt holds."
    )
    parser.add_argument("examples", type=Path, help="the folder of the example repository")
    try:
        print("\n".join(sorted(map(digest, example_runs(parser.parse_args(arguments).examples)))))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
