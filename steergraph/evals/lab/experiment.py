"""An experiment yields paired items, arms and metrics; the runner answers all of it through one engine, and resumes.

A folder of results holds `rows.jsonl`, one line for each item under each arm, and `manifest.json`: model, vectors'
hashes, settings, seed, a digest of the questions, versions and the command. A killed run goes on from the rows it has;
a folder of other settings or questions is refused.
Knows the engine's protocol. Knows nothing of what is measured.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from steergraph.agents.driving import versions
from steergraph.base.errors import InputError
from steergraph.base.files import CannotWrite, append_line, held, read_record, write_whole
from steergraph.base.records import Frozen
from steergraph.engine.protocol import Completion, Engine, Message, Request, Sampling
from steergraph.engine.steering.records import Receipt, Steering

ROWS, MANIFEST = "rows.jsonl", "manifest.json"
Report = Callable[[int, int], None]
"""Called with how many rows are there and how many there will be."""


@dataclass(frozen=True)
class Item:
    """What is asked, the same under every arm."""

    id: str
    messages: tuple[Message, ...]
    truth: Any = None
    """Whatever grading needs; it never reaches a prompt."""
    max_new_tokens: int = 64


class Arm(Frozen):
    """One way to speak."""

    name: str
    steering: Steering | None = None


class Answer(Frozen):
    """One item under one arm."""

    item: str
    arm: str
    text: str
    metrics: dict[str, float]
    """What the experiment measured of it; a metric that was not taken here is absent."""
    relative_dose: float = 0.0
    """Norm of what was added over the median residual norm; 0 where nothing was."""


class Experiment(Protocol):
    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes this experiment this one, JSON-like: its configuration and seed."""
        ...

    def pairs(self) -> Iterable[tuple[Item, Arm]]:
        """Every item under every arm, in an order that is always the same."""
        ...

    def answer(self, engine: Engine, batch: Sequence[tuple[Item, Arm]]) -> list[Answer]:
        """A row for each pair, in their order, each from its own item and arm alone."""
        ...


def run(
    experiment: Experiment,
    engine: Engine,
    folder: Path,
    *,
    command: str,
    chunk: int = 256,
    report: Report | None = None,
) -> list[Answer]:
    """Answer and grade what `folder` lacks, `chunk` rows at a time, and return all rows in the experiment's order.

    A chunk that was cut short is answered whole again and what it lacks is kept, so that a row is made in the same
    batch whether or not the run was interrupted. Raises InputError where `folder` holds another experiment's results,
    is in use or can't be written, and where an item does not fit the model's window.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot write {folder}: {error.strerror}") from error
    with held(folder / ".lock", f"{folder}: another run is writing there; wait for it or take another folder"):
        pairs = list(experiment.pairs())
        items = {item.id: item for item, _ in pairs}
        _claim(folder, manifest(experiment, engine, command) | {"questions": _digest(items)})
        order = [(item.id, arm.name) for item, arm in pairs]
        if len(set(order)) != len(order):
            raise InputError("an experiment asks the same item twice under one arm: give its items other names")
        have = read_rows(folder)
        _check_room(items.values(), engine)
        for start in range(0, len(pairs), chunk):
            if all(key in have for key in order[start : start + chunk]):
                continue
            for row in experiment.answer(engine, pairs[start : start + chunk]):
                if (row.item, row.arm) not in have:
                    append_line(folder / ROWS, row.model_dump(mode="json"))
                    have[row.item, row.arm] = row
            if report is not None:
                report(len(have), len(pairs))
    return [have[key] for key in order]


def _check_room(items: Iterable[Item], engine: Engine) -> None:
    for item in items:
        needed = engine.count_tokens(item.messages) + item.max_new_tokens
        if needed > engine.info.window:
            raise InputError(
                f"{item.id} needs {needed} tokens; {engine.info.name} has a window of {engine.info.window}"
            )


def speak(engine: Engine, batch: Sequence[tuple[Item, Arm]]) -> list[Completion]:
    """Every item greedily under its arm, in one batch."""
    return engine.generate(
        [
            Request(
                messages=item.messages, steering=arm.steering, sampling=Sampling(max_new_tokens=item.max_new_tokens)
            )
            for item, arm in batch
        ]
    )


def dose_of(receipt: Receipt | None) -> float:
    """The relative doses of a receipt together; 0 where there is none."""
    return sum(component.relative_dose for component in receipt.components) if receipt else 0.0


def read_rows(folder: Path) -> dict[tuple[str, str], Answer]:
    """The rows of a folder by (item, arm); a line that a kill cut short is left out. Raises InputError for another."""
    rows: dict[tuple[str, str], Answer] = {}
    try:
        lines = (folder / ROWS).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return rows
    except OSError as error:
        raise InputError(f"{folder / ROWS}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, 1):
        try:
            row = Answer.model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"{folder / ROWS}, line {number}: not a row of results; take another folder") from error
        rows[row.item, row.arm] = row
    return rows


def manifest(experiment: Experiment, engine: Engine, command: str) -> dict[str, Any]:
    """What every file of results says of its making."""
    return {
        "model": engine.info.model_dump(mode="json"),
        "vectors": {name: vector.hash for name, vector in sorted(engine.library.items())},
        "settings": json.loads(json.dumps(dict(experiment.settings))),
        "versions": versions(),
        "command": command,
    }


def _digest(items: Mapping[str, Item]) -> str:
    asked = {name: [message.model_dump(mode="json") for message in item.messages] for name, item in items.items()}
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _claim(folder: Path, found: Mapping[str, Any]) -> None:
    before = read_record(folder / MANIFEST)
    if before is None:
        if (folder / ROWS).exists():
            raise InputError(f"{folder}: rows without a {MANIFEST}: nothing says what they are; take another folder")
        write_whole(folder / MANIFEST, json.dumps(found, indent=1) + "\n")
        return
    for key in ("model", "vectors", "settings", "questions"):
        if before.get(key) != found[key]:
            which = "other" if key.endswith("s") else "another"
            raise InputError(f"{folder}: holds results of {which} {key}; take another folder or remove it")
