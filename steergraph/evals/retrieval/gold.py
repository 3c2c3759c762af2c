"""What a gold patch says about retrieval: the files it changes, and the functions and lines in them.

Reads the `patch` column, which nothing that searches ever sees: the search is over when this is looked at.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from steergraph.agents.instances import find_rows
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.evals.patches import touched_lines
from steergraph.retrieval.passages import pieces

_FILE = re.compile(r"--- a/(.+)")


class Function(Frozen):
    """A function or class of a gold file, and its lines that the gold patch changes (1-based, before the patch)."""

    path: str
    name: str
    lines: tuple[int, ...]


def gold_patches(source: str) -> dict[str, str]:
    """The gold patch of each instance of a dataset file. Raises InputError where it has none."""
    rows, _ = find_rows(Path(source), ("instance_id", "patch"))
    if not any("patch" in row for row in rows):
        raise InputError(f"{source}: no `patch` in its rows, and recall is measured against the gold patch")
    return {str(row["instance_id"]): str(row.get("patch") or "") for row in rows}


def gold_files(patch: str) -> list[str]:
    """The files that SWE-bench's own measure counts: every `--- a/...` of the patch, so none that it adds."""
    return sorted(set(_FILE.findall(patch)))


def gold_functions(patch: str, texts: Mapping[str, str]) -> list[Function]:
    """The innermost functions, methods or classes that the patch changes, of the files whose `texts` before it are
    given.

    A changed line is one that the patch removes, or the line that it adds something after. What it changes outside
    any function or class counts nowhere.
    """
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for path, lines in touched_lines(patch).items():
        named = [piece for piece in pieces(path, texts.get(path, "")) if piece.name]
        for line in {max(1, line) for line in lines}:
            around = [piece for piece in named if piece.first <= line <= piece.last]
            if around:
                found[path, min(around, key=lambda piece: piece.last - piece.first).name].add(line)
    return [Function(path=path, name=name, lines=tuple(sorted(lines))) for (path, name), lines in sorted(found.items())]
