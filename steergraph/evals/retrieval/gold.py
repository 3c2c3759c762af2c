"""What a gold patch says about retrieval: the files it changes, and the functions and lines in them.

Reads the `patch` column, which nothing that searches ever sees: the search is over when this is looked at.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from unidiff import PatchSet
from unidiff.errors import UnidiffParseError

from steergraph.base.errors import InputError
from steergraph.retrieval.passages import pieces

_FILE = re.compile(r"--- a/(.+)")


class Function(BaseModel):
    """A function or class of a gold file, and its lines that the gold patch changes (1-based, before the patch)."""

    model_config = ConfigDict(frozen=True)

    path: str
    name: str
    lines: tuple[int, ...]


def gold_patches(source: str) -> dict[str, str]:
    """The gold patch of each instance of a dataset file. Raises InputError where it has none."""
    path = Path(source)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        if "patch" not in pyarrow.parquet.read_schema(path).names:
            raise InputError(f"{path}: no column `patch`, and recall is measured against the gold patch")
        rows: list[Mapping[str, Any]] = pyarrow.parquet.read_table(path, columns=["instance_id", "patch"]).to_pylist()
    else:
        text = path.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.split("\n") if line.strip()] if path.suffix == ".jsonl" else None
        loaded = json.loads(text) if lines is None else lines
        rows = list(loaded.values()) if isinstance(loaded, dict) else loaded
        if not any("patch" in row for row in rows):
            raise InputError(f"{path}: no `patch` in its rows, and recall is measured against the gold patch")
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
    try:
        files = PatchSet(patch)
    except UnidiffParseError:
        return []
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for file in files:
        text = texts.get(file.path)
        if text is None:
            continue
        named = [piece for piece in pieces(file.path, text) if piece.name]
        for line in _changed(file):
            around = [piece for piece in named if piece.first <= line <= piece.last]
            if around:
                found[file.path, min(around, key=lambda piece: piece.last - piece.first).name].add(line)
    return [Function(path=path, name=name, lines=tuple(sorted(lines))) for (path, name), lines in sorted(found.items())]


def _changed(file: Any) -> set[int]:
    changed = set()
    for hunk in file:
        at = hunk.source_start - 1
        for line in hunk:
            if line.is_added:
                changed.add(max(1, at))
            elif line.is_removed or line.is_context:
                at += 1
                if line.is_removed:
                    changed.add(at)
    return changed
