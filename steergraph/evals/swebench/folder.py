"""A batch run's folder: what was asked, one record for each finished instance, and the predictions made of them.

Knows files; the layout is in docs/swebench.md. An instance is finished when its record is there, a sample when its
outcome is: both are written whole, so that a kill at any moment loses nothing that was finished and doubles nothing.
"""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.files import CannotWrite, append_line, held, read_record, sweep_drafts, write_whole
from steergraph.base.folders import check_outside_package
from steergraph.evals.swebench.config import BatchConfig

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
_FREE = ("command", "presets", "instances", "dataset", "repos", "state")
"""What a later command may say otherwise: more presets and instances, and where things are. Rows have their hashes."""
_IN_THE_MODEL = "weights"
"""Compared by the model's record, which knows what "auto" was; run.json keeps what was said first."""
_DEFAULTS = BatchConfig().record("bench")
"""Of what a run.json of an older version does not say."""


class BatchFolder:
    """`open` makes or takes it; work on it inside `locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, runs: str | Path, run_id: str) -> "BatchFolder":
        """The folder `runs`/`run_id`, made where it is not there. Raises InputError where it can't be a run's."""
        if not _NAME.fullmatch(run_id):
            raise InputError(
                f"--run-id {run_id[:100]!r}: letters, digits, dots, dashes and underscores, no more than 100"
            )
        path = Path(runs) / run_id
        check_outside_package(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the run folder {path}: {error.strerror}") from error
        return cls(path.resolve())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run, across processes. Raises InputError where another process works on it."""
        with held(self.path / "lock", f"{self.path}: another process is working on this run"):
            yield

    def begin(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Write down what is asked, or go on with what was. Returns run.json, with the run's `uid`.

        Presets and instances may be added to. Raises InputError where the run was begun with other settings, or a
        row of the dataset has changed since.
        """
        path = self.path / "run.json"
        before = read_record(path)
        if before is None and path.exists():
            raise InputError(f"{path}: not readable: name another run id")
        if before is not None and not {"uid", "presets", "instances", "commands"} <= before.keys():
            raise InputError(f"{path}: the record of another kind of run: name another run id")
        if before is None or "model_info" not in before:  # nothing was made yet: its model could not be loaded, say
            before = {"uid": uuid.uuid4().hex, "presets": [], "instances": {}, "commands": []}
            before |= {key: value for key, value in asked.items() if key not in _FREE}
        for key, value in asked.items():
            begun_with = before.get(key, _DEFAULTS.get(key))
            if key not in (*_FREE, _IN_THE_MODEL) and begun_with != value:
                raise InputError(
                    f"{self.path}: begun with {key} {_short(begun_with)}, not {_short(value)}: "
                    "go on with the same settings, or name another run id"
                )
        for instance, row_hash in asked["instances"].items():
            if before["instances"].get(instance, row_hash) != row_hash:
                raise InputError(f"{self.path}: the dataset's row of {instance} has changed: name another run id")
        after = before | {
            **{key: asked[key] for key in ("dataset", "repos", "state") if key in asked},
            "presets": list(dict.fromkeys([*before["presets"], *asked["presets"]])),
            "instances": before["instances"] | asked["instances"],
            "commands": [*before["commands"], asked["command"]][-20:],
        }
        write_whole(path, json.dumps(after, indent=2, ensure_ascii=False) + "\n")
        return after

    def keep_model(self, model: Mapping[str, Any]) -> None:
        """Write down which model it is. Raises InputError where the run was begun with another, or another revision."""
        path = self.path / "run.json"
        before = read_record(path) or {}
        known = before.get("model_info")
        if known is not None and known != dict(model):
            raise InputError(
                f"{self.path}: begun with {_model(known)}, and this is {_model(model)}: name another run id, "
                "or load it as it was (--model, --weights)"
            )
        write_whole(path, json.dumps(before | {"model_info": dict(model)}, indent=2, ensure_ascii=False) + "\n")

    def instance(self, preset: str, instance_id: str) -> Path:
        return self.path / "instances" / preset / instance_id

    def sample(self, preset: str, instance_id: str, sample: int) -> Path:
        return self.instance(preset, instance_id) / f"sample-{sample}"

    def record(self, preset: str, instance_id: str) -> dict[str, Any] | None:
        """The record of a finished instance."""
        return read_record(self.instance(preset, instance_id) / "record.json")

    def outcome(self, preset: str, instance_id: str, sample: int) -> dict[str, Any] | None:
        """The outcome of a finished sample."""
        return read_record(self.sample(preset, instance_id, sample) / "outcome.json")

    def keep_outcome(self, preset: str, instance_id: str, sample: int, outcome: Mapping[str, Any]) -> None:
        folder = self.sample(preset, instance_id, sample)
        _make(folder)
        write_whole(folder / "outcome.json", json.dumps(outcome, indent=2, ensure_ascii=False) + "\n")

    def keep_record(self, record: Mapping[str, Any]) -> None:
        """Finish an instance: its record, then its prediction's line."""
        folder = self.instance(record["preset"], record["instance_id"])
        _make(folder)
        write_whole(folder / "record.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        predictions = self.path / "predictions"
        _make(predictions)
        append_line(predictions / f"{record['preset']}.jsonl", _row(record))

    def forget(self, preset: str, instance_id: str) -> None:
        """Remove all there is of an instance, for it to be done anew. Its record goes first."""
        folder = self.instance(preset, instance_id)
        (folder / "record.json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def rebuild_predictions(self, preset: str, instances: Sequence[str]) -> list[dict[str, Any]]:
        """Write a preset's predictions from its records, in the order of `instances`; those without one are left out.

        Returns the records. What a kill left of a line, or between a record and its line, is mended by this.
        """
        records = [r for instance in instances if (r := self.record(preset, instance)) is not None]
        _make(self.path / "predictions")
        text = "".join(json.dumps(_row(record), ensure_ascii=False) + "\n" for record in records)
        write_whole(self.path / "predictions" / f"{preset}.jsonl", text)
        return records

    def keep_summary(self, summary: Mapping[str, Any]) -> None:
        """Write what is known of each preset; of those not in `summary`, what an earlier command said."""
        path = self.path / "summary.json"
        write_whole(path, json.dumps({**(read_record(path) or {}), **summary}, indent=2, ensure_ascii=False) + "\n")

    def sweep(self) -> None:
        """Remove the temporary files that a kill left behind."""
        sweep_drafts(self.path)


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "instance_id": record["instance_id"],
        "model_patch": record["patch"],
        "model_name_or_path": record["model_name_or_path"],
    }


def _model(info: Mapping[str, Any]) -> str:
    held = info.get("quantization") or "as in the checkpoint"
    return f"{info.get('name')} at revision {info.get('revision')}, weights {held}"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot write {folder}: {os.strerror(error.errno or 0)}") from error


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
