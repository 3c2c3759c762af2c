"""What is graded: dataset rows with their gold and test columns, and predictions.

These columns reach grading only; `instances.py`, which feeds the agents, reads none of them. Knows files and which
columns swebench 5 needs. Runs nothing. What is wrong with one prediction is a note, and the others go on.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steergraph.agents.instances import need_prediction
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.evals.swebench.datasets import ALIASES

NEEDED = ("instance_id", "repo", "base_commit", "version", "patch", "FAIL_TO_PASS", "PASS_TO_PASS")
ADDED_IN_5 = ("eval_script", "log_parser", "eval_type")
"""Columns that datasets for older harnesses lack; `image` is one too, which only Docker needs."""
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")
"""Names of instances and runs, which become names of folders."""
_NO_MODEL = "unnamed"


class Row(Frozen):
    """One instance as the harness sees it. `columns` is the dataset's row."""

    instance_id: str
    repo: str
    version: str
    base_commit: str
    gold: str
    columns: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Changes when anything changes that a verdict hangs on."""
        names = ("base_commit", "eval_script", "log_parser", "eval_type", "FAIL_TO_PASS", "PASS_TO_PASS")
        said = json.dumps([self.columns.get(name) for name in names], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()[:16]


class Prediction(Frozen):
    """A patch by a model for an instance. `model` is a folder's name, as the harness makes it."""

    instance_id: str
    model: str
    patch: str | None
    is_gold: bool = False
    """It is the dataset's own patch, whoever claims it."""

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256((self.patch or "").encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_rows(sources: Sequence[str | Path], *, images: bool = False) -> dict[str, Row]:
    """The rows of datasets, by instance id; the first of two with one id counts.

    Args:
        sources: parquet, JSON or JSONL files, or what `datasets` loads: a folder, a name on the hub (its test split).
        images: the column `image` is needed too.

    Raises InputError where a file cannot be read, has another schema, or lacks the columns of swebench 5.
    """
    rows: dict[str, Row] = {}
    for source in sources:
        for number, columns in enumerate(_load(source), 1):
            _check(source, number, columns, images)
            row = Row(
                instance_id=str(columns["instance_id"]),
                repo=str(columns["repo"]),
                version=str(columns["version"]),
                base_commit=str(columns["base_commit"]),
                gold=str(columns["patch"]),
                columns={**columns, "image": columns.get("image") or ""},
            )
            rows.setdefault(row.instance_id, row)
    if not rows:
        raise InputError(f"{', '.join(map(str, sources))}: no rows")
    return rows


def gold_predictions(rows: Iterable[Row]) -> list[Prediction]:
    """The dataset's own patches, under the name that the harness gives them."""
    return [Prediction(instance_id=row.instance_id, model="gold", patch=row.gold, is_gold=True) for row in rows]


def read_predictions(path: Path, rows: Mapping[str, Row]) -> tuple[list[Prediction], list[str]]:
    """The predictions of a .jsonl or .json file that can be graded, and a note for each thing that is wrong.

    Of two for one instance by one model the last counts, as with the harness. Raises InputError where the file cannot
    be read at all, a row has other keys, or nothing in it can be graded.
    """
    notes: list[str] = []
    found: dict[tuple[str, str], Prediction] = {}
    for place, entry in _entries(path, notes):
        prediction = _prediction(place, entry, rows, notes)
        if prediction is None:
            continue
        key = prediction.model, prediction.instance_id
        if key in found:
            notes.append(f"{place}: {prediction.instance_id} again: the last one is graded, as the harness does")
        found[key] = prediction
    if not found:
        why = f": {notes[0]}" if notes else ""
        raise InputError(f"{path}: no prediction that can be graded{why}")
    if gold := [each.instance_id for each in found.values() if each.is_gold]:
        notes.append(f"{len(gold)} of {len(found)} predictions are the dataset's own patch ({gold[0]}, ...): no result")
    return list(found.values()), notes


def _entries(path: Path, notes: list[str]) -> Iterable[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read it: {str(error).splitlines()[0]}") from error
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                yield f"{path.name} line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                notes.append(f"{path.name} line {number}: cut off or not JSON, left out: {str(error)[:100]}")
        return
    if path.suffix != ".json":
        raise InputError(f"{path}: predictions are a .json or .jsonl file")
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cut off or not JSON: {str(error)[:100]}") from error
    listed = list(loaded.values()) if isinstance(loaded, dict) else loaded
    if not isinstance(listed, list):
        raise InputError(f"{path}: predictions are a list, or a mapping from instance ids")
    for number, entry in enumerate(listed, 1):
        yield f"{path.name} entry {number}", entry


def _prediction(place: str, entry: Any, rows: Mapping[str, Row], notes: list[str]) -> Prediction | None:
    if not isinstance(entry, dict):
        notes.append(f"{place}: no object, left out")
        return None
    need_prediction(entry, place)
    name, patch = entry["instance_id"], entry["model_patch"]
    if not isinstance(name, str):
        notes.append(f"{place}: its instance_id is no text, left out")
        return None
    if name not in rows:
        notes.append(f"{place}: no instance {name[:100]!r} in the dataset, left out")
        return None
    if patch is not None and not isinstance(patch, str):
        notes.append(f"{place}: {name}: its model_patch is no text, left out")
        return None
    model = str(entry.get("model_name_or_path") or "")
    if not model:
        notes.append(f"{place}: {name}: no model_name_or_path, graded as {_NO_MODEL!r}")
        model = _NO_MODEL
    folder = model.replace("/", "__")
    if folder in (".", "..") or not folder.isprintable() or len(folder.encode("utf-8", "replace")) > 200:
        notes.append(f"{place}: {name}: its model_name_or_path cannot name a folder, left out")
        return None
    is_gold = bool(patch) and str(patch).strip() == rows[name].gold.strip()
    return Prediction(instance_id=name, model=folder, patch=patch, is_gold=is_gold)


def _load(source: str | Path) -> list[Any]:
    path = Path(source)
    try:
        if not path.is_file():
            if path.suffix in (".parquet", ".json", ".jsonl"):
                raise FileNotFoundError("no such file")
            import datasets

            datasets.utils.logging.disable_progress_bar()
            return list(datasets.load_dataset(ALIASES.get(str(source).lower(), str(source)), split="test"))
        if path.suffix == ".parquet":
            import pyarrow.parquet

            listed: list[Any] = pyarrow.parquet.read_table(path).to_pylist()
            return listed
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        loaded = json.loads(text)
        return list(loaded.values()) if isinstance(loaded, dict) else list(loaded)
    except Exception as error:  # every reader has exceptions of its own; the user needs one line
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{source}: not a readable dataset: {said[:200]}") from error


def _check(path: str | Path, number: int, columns: Any, images: bool) -> None:
    if not isinstance(columns, dict):
        raise InputError(f"{path}: row {number} is not an object")
    if missing := [name for name in NEEDED if columns.get(name) is None]:
        raise InputError(f"{path}: row {number} lacks {', '.join(missing)}: this is not a SWE-bench dataset")
    if missing := [name for name in (*ADDED_IN_5, *(["image"] if images else [])) if not columns.get(name)]:
        raise InputError(
            f"{path}: row {number} lacks {', '.join(missing)}, columns that came with swebench 5: take the current "
            "parquet files of SWE-bench/SWE-bench_Lite, _Verified or SWE-bench, or make them with `swebench dataset`"
        )
    if not SAFE_NAME.fullmatch(str(columns["instance_id"])):
        raise InputError(f"{path}: row {number}: {str(columns['instance_id'])[:80]!r} cannot name an instance")
    for name in ("FAIL_TO_PASS", "PASS_TO_PASS"):
        try:
            tests = json.loads(columns[name]) if isinstance(columns[name], str) else columns[name]
        except ValueError:
            tests = None
        if not isinstance(tests, list):
            raise InputError(f"{path}: row {number}: its {name} is no list of tests")
