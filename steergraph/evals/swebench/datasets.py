"""A SWE-bench dataset by file, folder or name on the Hugging Face hub, cut to what a run may see.

Knows columns, and says in one line each what is wrong with them. Gold columns are looked for by name alone, never read.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from steergraph.agents.instances import COLUMNS, find_rows
from steergraph.base.errors import InputError, one_line
from steergraph.base.records import Frozen

ALIASES = {
    "lite": "SWE-bench/SWE-bench_Lite",
    "verified": "SWE-bench/SWE-bench_Verified",
    "full": "SWE-bench/SWE-bench",
    "multilingual": "SWE-bench/SWE-bench_Multilingual",
}
V5_COLUMNS = ("image", "eval_script", "log_parser", "eval_type")
"""What the harness needs of a row since version 5, beside the classic columns. Predicting needs none of them."""
_HUB_S = 10.0
_NEEDED = tuple(name for name in COLUMNS if name != "version")
_ID = re.compile(r"[A-Za-z0-9][\w.+-]{0,180}")
_REPO = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*")


class Dataset(Frozen):
    name: str
    """The file as it was named, or the name on the hub and the split."""
    rows: tuple[dict[str, str], ...]
    """`COLUMNS` of every row; a value that a row lacks is ""."""
    notes: tuple[str, ...] = ()
    """What is odd about it and is no reason not to go on, a line each."""

    @property
    def hashes(self) -> dict[str, str]:
        """A hash of each instance's row, by id."""
        return {row["instance_id"]: row_hash(row) for row in self.rows}


def row_hash(row: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([row[name] for name in COLUMNS]).encode()).hexdigest()[:16]


def load_dataset(source: str, split: str = "test") -> Dataset:
    """The dataset at `source`: a parquet, JSON or JSONL file, a folder, or a name on the hub (`lite`, `verified`,
    `owner/name`), of which `split` is taken.

    Raises InputError, one line, where it can't be read or is no SWE-bench dataset.
    """
    if Path(source).is_file() or source.endswith((".parquet", ".json", ".jsonl")):
        return _checked(source, *find_rows(Path(source)))
    name = ALIASES.get(source.lower(), source)
    return _checked(f"{name}:{split}", *_from_hub(name, split))


def lacking_v5(names: Sequence[str]) -> str | None:
    """One line on the columns that grading needs and a dataset with the columns `names` lacks; None where none."""
    lacking = [name for name in V5_COLUMNS if name not in names]
    if not lacking:
        return None
    return (
        f"its rows lack {', '.join(lacking)}, which grading needs since swebench 5: predictions are made all the same; "
        "to grade them use a dataset published since then (SWE-bench/SWE-bench_Verified has the columns)"
    )


def _checked(name: str, rows: Sequence[Any], names: Sequence[str] | None) -> Dataset:
    if not rows:
        raise InputError(f"{name}: the dataset has no rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise InputError(f"{name}: row {number} is not an object")
        if missing := [c for c in _NEEDED if c not in row]:
            has = ", ".join(str(key)[:30] for key in list(row)[:6])
            raise InputError(
                f"{name}: row {number} lacks {', '.join(missing)}, so this is not a SWE-bench dataset (it has {has})"
            )
        if not _ID.fullmatch(str(row["instance_id"])):
            raise InputError(f"{name}: row {number}: {str(row['instance_id'])[:100]!r} cannot be an instance's id")
        if row["repo"] and not _REPO.fullmatch(str(row["repo"])):
            raise InputError(f"{name}: row {number}: {str(row['repo'])[:100]!r} is no repository's owner/name")
    notes = []
    kept: dict[str, dict[str, str]] = {}
    repeated = []
    for row in ({c: str(row.get(c) or "") for c in COLUMNS} for row in rows):
        before = kept.setdefault(row["instance_id"], row)
        if before is row:
            continue
        if before != row:
            raise InputError(f"{name}: there are two different rows of {row['instance_id']}: leave one out")
        repeated.append(row["instance_id"])
    if repeated:
        notes.append(f"{name}: {len(repeated)} repeated row(s) left out, the first of {repeated[0]}")
    # The keys of JSON rows differ from row to row: a column is there where every row has it.
    columns = names if names is not None else set(rows[0]).intersection(*rows)
    if lacking := lacking_v5(list(columns)):
        notes.append(f"{name}: {lacking}")
    return Dataset(name=name, rows=tuple(kept.values()), notes=tuple(notes))


def _from_hub(name: str, split: str) -> tuple[list[Any], list[str]]:
    """Rows and column names through `datasets`, which also reads folders and its own cache, without network too."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{name}: no such file; a dataset of the hub needs: pip install 'steergraph[swebench]'"
        ) from error
    datasets.utils.logging.disable_progress_bar()
    silent = None if Path(name).exists() else _why_silent(name)
    try:
        with _offline() if silent else nullcontext():
            loaded = datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub's client, pyarrow and requests each have errors of their own
        if silent:
            raise InputError(
                f"{name}: no such file, and neither the hub's cache has it (split {split}) nor does the hub answer: "
                f"{silent}: give a file"
            ) from error
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{name}: no such file, and the hub does not give it (split {split}): {said}") from error
    present = list(loaded.column_names)
    table = loaded.select_columns([c for c in COLUMNS if c in present])
    return [dict(row) for row in table], present


def _why_silent(name: str) -> str | None:
    """Why the hub gives no answer at all about `name`; None where it gives one, be it no. Asked once: its library would
    ask again and again."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        HfApi().dataset_info(name, timeout=_HUB_S)
    except (HfHubHTTPError, OfflineModeIsEnabled, ValueError):  # what follows says it
        return None
    except Exception as error:  # its client's own errors: no route, no name, no answer in time
        return one_line(str(error), 150) or type(error).__name__
    return None


@contextmanager
def _offline() -> Iterator[None]:
    """While it lasts the hub's libraries look in their cache alone."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
