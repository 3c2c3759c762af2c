"""What a report is made of: run folders and files of predictions, read as far as they are whole.

Knows the layout of a batch run's folder (docs/swebench.md). Reads no gold and no grading. What is damaged becomes a
note, in one line, and is left out; only what is no run at all is an error. Samples, which may be large,
are `samples`' business.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steergraph.agents.instances import need_prediction
from steergraph.base.errors import InputError, first_problem
from steergraph.base.files import read_lines, read_record
from steergraph.base.records import Frozen
from steergraph.evals.swebench.candidates import STATUSES

_UNUSABLE = ("", ".", "..")


class Entry(Frozen):
    """One instance of one variant. None where a file of predictions does not say."""

    instance_id: str
    status: str
    """As in record.json; `prediction` where it is from a file of predictions."""
    patch: str
    model: str
    """As in the prediction."""
    error: str | None = None
    why: str | None = None
    chosen: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    truncated: int | None = None
    samples: tuple[Path, ...] = ()
    """Their folders, in order."""


class Variant(Frozen):
    """One column of a report: a preset of a run, or a model of a file of predictions."""

    label: str
    run: str
    preset: str
    model: str
    settings: dict[str, Any]
    expected: tuple[str, ...]
    """The instances that it was asked for, in order."""
    entries: dict[str, Entry]
    """Those that are finished and whole."""


def read_variants(sources: Sequence[str], notes: list[str]) -> list[Variant]:
    """The variants of run folders and files of predictions, in order; what is wrong with them is added to `notes`.

    Raises InputError for a source that is neither, and where there is nothing to report.
    """
    variants: list[Variant] = []
    for source in dict.fromkeys(str(Path(each)) for each in sources):
        path = Path(source)
        if path.is_dir():
            variants += _run(path, notes)
        elif path.suffix in (".json", ".jsonl") and path.is_file():
            variants += _predictions(path, notes)
        else:
            raise InputError(
                f"{source}: no such run: give a folder that `steergraph bench swebench` made, or a .json or .jsonl "
                "file of predictions"
            )
    if not any(variant.entries for variant in variants):
        why = f": {notes[0]}" if notes else ""
        raise InputError(f"{', '.join(sources)}: no finished instance to report{why}")
    return _labelled([variant for variant in variants if variant.entries])


def _run(path: Path, notes: list[str]) -> list[Variant]:
    asked = read_record(path / "run.json")
    if asked is None:
        raise InputError(f"{path}: no run folder: its run.json is missing or damaged")
    presets, instances = asked.get("presets"), asked.get("instances")
    if not isinstance(presets, list) or not isinstance(instances, dict):
        raise InputError(f"{path}: its run.json is not one of `steergraph bench swebench`")
    given = asked.get("model_info")
    info: dict[str, Any] = given if isinstance(given, dict) else {}
    variants = []
    for preset in (str(each) for each in presets):
        entries = {}
        for instance_id in map(str, instances):
            if {instance_id, preset} & set(_UNUSABLE) or "/" in instance_id + preset:
                notes.append(f"{path}: {instance_id[:80]!r} can't be an instance's id: left out")
                continue
            folder = path / "instances" / preset / instance_id
            file = folder / "record.json"
            if not file.exists():
                continue
            try:
                entries[instance_id] = _entry(read_record(file), folder, instance_id)
            except ValueError as error:
                notes.append(f"{file}: damaged, left out ({first_problem(error)}): the run's own command does it anew")
        if missing := len(instances) - len(entries):
            notes.append(f"{path.name}, {preset}: {missing} of {len(instances)} instances are not finished")
        variants.append(
            Variant(
                label=preset,
                run=path.resolve().name,
                preset=preset,
                model=" ".join(
                    str(word) for word in (info.get("name") or asked.get("model"), info.get("revision")) if word
                ),
                settings={key: asked[key] for key in sorted(asked) if key not in ("instances", "presets", "uid")},
                expected=tuple(map(str, instances)),
                entries=entries,
            )
        )
    return variants


def _entry(record: Mapping[str, Any] | None, folder: Path, instance_id: str) -> Entry:
    if record is None:
        raise ValueError("cut off, or not JSON")
    if record.get("instance_id") != instance_id:
        raise ValueError("it is another instance's")
    if record.get("status") not in STATUSES:
        raise ValueError("its status is none")
    candidates = record.get("candidates")
    if not isinstance(candidates, list):
        raise ValueError("its candidates are no list")
    values = {name: record.get(name) for name in Entry.model_fields}
    values["model"] = record.get("model_name_or_path")
    values["samples"] = [folder / f"sample-{number}" for number in range(len(candidates))]
    return Entry.model_validate(values)


def _predictions(path: Path, notes: list[str]) -> list[Variant]:
    by_model: dict[str, dict[str, Entry]] = {}
    for place, row in prediction_rows(path, notes):
        need_prediction(row, place)
        name, patch = row["instance_id"], row["model_patch"]
        if not isinstance(name, str) or name in _UNUSABLE or "/" in name or not isinstance(patch, str | None):
            notes.append(f"{place}: its instance_id or model_patch is no text that can be used, left out")
            continue
        model = str(row.get("model_name_or_path") or "unnamed")
        entries = by_model.setdefault(model, {})
        if name in entries:
            notes.append(f"{place}: {name} again: the last one counts, as with the harness")
        entries[name] = Entry(instance_id=name, status="prediction", patch=patch or "", model=model)
    return [
        Variant(
            label=model,
            run=path.name,
            preset="",
            model=model,
            settings={},
            expected=tuple(entries),
            entries=entries,
        )
        for model, entries in by_model.items()
    ]


def prediction_rows(path: Path, notes: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a .json or .jsonl file of predictions, and where each stands. Lines that are cut off are noted.
    Raises InputError where the file can't be read."""
    if path.suffix == ".json":
        try:
            loaded = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {first_problem(error)}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: cut off or not JSON: {first_problem(error)}") from error
        listed = list(loaded.values()) if isinstance(loaded, dict) else loaded
        if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
            raise InputError(f"{path}: predictions are a list, or a mapping from instance ids")
        return [(f"{path} entry {number}", row) for number, row in enumerate(listed, 1)]
    rows = []
    for number, row in read_lines(path):
        if isinstance(row, str):
            notes.append(f"{path} line {number}: cut off or not JSON, left out: {row}")
        else:
            rows.append((f"{path} line {number}", row))
    return rows


def _labelled(variants: list[Variant]) -> list[Variant]:
    """With labels that tell them apart: the run's name too, where a preset is there twice, and numbers at last."""
    labels = [variant.label for variant in variants]
    found: list[Variant] = []
    for variant in variants:
        label = variant.label if labels.count(variant.label) == 1 else f"{variant.label} ({variant.run})"
        again = sum(each.label == label or each.label.startswith(f"{label} #") for each in found)
        found.append(variant.model_copy(update={"label": f"{label} #{again + 1}" if again else label}))
    return found
