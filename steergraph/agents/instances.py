"""SWE-bench instances from a file, and predictions in the form the official harness loads.

Reads parquet, JSON and JSONL. Only `instance_id`, `repo`, `base_commit`, `version` and `problem_statement` are ever
read from a row: gold patches, tests and hints stay on disk.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steergraph.agents.state import Task
from steergraph.base.errors import InputError, one_line

COLUMNS = ("instance_id", "repo", "base_commit", "version", "problem_statement")


def read_instances(path: str | Path) -> list[dict[str, str]]:
    """The rows of a dataset file, cut to `COLUMNS`. Raises InputError where the file is no SWE-bench dataset."""
    path = Path(path)
    rows, _ = find_rows(path)
    if not rows:
        raise InputError(f"{path}: the dataset has no rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise InputError(f"{path}: row {number} is not an object")
        missing = [name for name in COLUMNS if name != "version" and not row.get(name)]
        if missing:
            raise InputError(f"{path}: row {number} lacks {missing[0]}, so this is not a SWE-bench dataset")
    return [{name: str(row.get(name) or "") for name in COLUMNS} for row in rows]


def find_instance(path: str | Path, instance_id: str) -> dict[str, str]:
    """One row of a dataset file. Raises InputError naming the nearest ids where there is none of that id."""
    rows = read_instances(path)
    for row in rows:
        if row["instance_id"] == instance_id:
            return row
    near = difflib.get_close_matches(instance_id, [row["instance_id"] for row in rows], n=3, cutoff=0.4)
    hint = f"; the nearest are {', '.join(near)}" if near else ""
    raise InputError(f"{path}: no instance {instance_id!r} among {len(rows)}{hint}")


def task_of(row: Mapping[str, str], repo: str) -> Task:
    """The task of an instance, to be done in the repository at `repo`."""
    return Task(
        kind="issue",
        problem=row["problem_statement"],
        repo=repo,
        base_commit=row["base_commit"],
        instance_id=row["instance_id"],
        version=row["version"] or None,
        project=row["repo"],
    )


def prediction(instance_id: str, patch: str | None, model: str, preset: str) -> dict[str, str]:
    """One row for the harness. An empty patch is "", and the model's name says which preset made it."""
    name = f"steergraph-{model}-{preset}".replace("/", "__")
    return {"instance_id": instance_id, "model_patch": patch or "", "model_name_or_path": name}


def need_prediction(row: Mapping[str, Any], where: str) -> None:
    """Raise InputError, naming what it lacks, for a row under other names than the harness's: read as it stands it
    would be an empty patch."""
    if lacking := [name for name in ("instance_id", "model_patch") if name not in row]:
        has = ", ".join(one_line(str(name), 30) for name in list(row)[:6])
        raise InputError(f"{where}: it lacks {' and '.join(lacking)}, so this is no prediction (it has {has})")


def find_rows(path: Path, columns: Sequence[str] = COLUMNS) -> tuple[list[Any], tuple[str, ...] | None]:
    """Every row of a dataset file, and its columns where all rows have the same (parquet; None for the others).

    Of a parquet file only `columns` are read. Raises InputError where there is no file or it can't be read.
    """
    if not path.is_file():
        raise InputError(f"no dataset at {path}: give a parquet, JSON or JSONL file")
    try:
        return _rows(path, columns)
    except InputError:
        raise
    except Exception as error:  # every reader has exceptions of its own; the user needs one line
        raise InputError(f"{path}: not a readable {path.suffix or 'dataset'} file: {_first_line(error)}") from error


def _rows(path: Path, columns: Sequence[str]) -> tuple[list[Any], tuple[str, ...] | None]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        names = tuple(pyarrow.parquet.read_schema(path).names)
        table = pyarrow.parquet.read_table(path, columns=[name for name in columns if name in names])
        return table.to_pylist(), names
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()], None
    if path.suffix == ".json":
        loaded = json.loads(text)
        listed = list(loaded.values()) if isinstance(loaded, dict) else loaded
        if not all(isinstance(row, dict) for row in listed):
            raise InputError(f"{path}: a dataset is a list of instances")
        return list(listed), None
    raise InputError(f"{path}: a dataset is a .parquet, .json or .jsonl file")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
