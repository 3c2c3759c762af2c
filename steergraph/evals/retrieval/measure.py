"""Recall of files and functions, as SWE-bench defines it, and what of a ranking fits a budget.

Knows rankings and gold. Knows nothing of how a ranking was made. For one instance recall is the share of its gold files
that were retrieved; over instances `avg` is its mean, `all` the share of instances with recall 1, `any` of those with
recall above 0. Instances without gold are left out; nothing retrieved counts 0.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from steergraph.base.errors import InputError, one_line
from steergraph.evals.retrieval.gold import Function
from steergraph.retrieval.pack import Passage

COUNTS = (1, 3, 5, 10, 20)
"""Files."""
BUDGETS = (2_000, 4_000, 8_000, 13_000, 27_000, 50_000)
"""Tokens."""
_CHARACTERS = 4
"""Of a token, where no tokenizer is named."""
Kind = Literal["avg", "all", "any"]


def recall(retrieved: Sequence[str], gold: Sequence[str]) -> float:
    """The share of `gold` that is in `retrieved`. `gold` is not empty."""
    return len(set(gold) & set(retrieved)) / len(gold)


def of_kind(value: float, kind: Kind) -> float:
    """An instance's recall as `kind` counts it."""
    return value if kind == "avg" else float(value == 1) if kind == "all" else float(value > 0)


def whole_files(ranked: Sequence[str], tokens: Mapping[str, int], budget: int) -> list[str]:
    """The files that fit `budget` in the order of their ranks; one that is too long is passed over (the rule of
    SWE-bench's `create_instance`, strictly less)."""
    fitting, used = [], 0
    for path in ranked:
        if used + tokens[path] < budget:
            fitting.append(path)
            used += tokens[path]
    return fitting


def files_of(passages: Sequence[Passage]) -> list[str]:
    return list(dict.fromkeys(passage.path for passage in passages))


def functions_in_files(files: Sequence[str], gold: Sequence[Function]) -> float:
    """The share of gold functions whose file is there whole. `gold` is not empty."""
    return sum(function.path in set(files) for function in gold) / len(gold)


def functions_shown(passages: Sequence[Passage], gold: Sequence[Function]) -> float:
    """The share of gold functions of which passages show every line that the patch changes. `gold` is not empty."""
    shown: dict[str, set[int]] = {}
    for passage in passages:
        shown.setdefault(passage.path, set()).update(range(passage.first_line, passage.last_line + 1))
    return sum(shown.get(function.path, set()) >= set(function.lines) for function in gold) / len(gold)


def counter(tokenizer: str | None) -> Callable[[str], int]:
    """Tokens by a tokenizer.json (or a folder that has one); without one, four characters are a token. Raises
    InputError where it can't be read."""
    if tokenizer is None:
        return lambda text: -(-len(text) // _CHARACTERS)
    from tokenizers import Tokenizer

    path = Path(tokenizer) / "tokenizer.json" if Path(tokenizer).is_dir() else Path(tokenizer)
    if not path.is_file():
        raise InputError(f"--tokenizer {path}: no such tokenizer: give a tokenizer.json, or a folder that has one")
    try:
        loaded = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more exact
        raise InputError(
            f"--tokenizer {path}: not a tokenizer that can be read: {one_line(str(error), 200)}"
        ) from error
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)
