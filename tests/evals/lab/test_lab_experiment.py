"""The lab's runner on pocket: rows are made once, in order, and a run that was cut short goes on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steergraph.base.errors import InputError
from steergraph.base.files import held
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Engine, Message
from steergraph.evals.lab.experiment import Answer, Arm, Item, read_rows, run, speak


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine("pocket") as opened:
        yield opened


class Counting:
    """Three questions under two arms; notes what it was asked."""

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self.asked: list[tuple[str, str]] = []

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"experiment": "counting", "seed": self.seed}

    def pairs(self) -> Iterator[tuple[Item, Arm]]:
        for number in range(3):
            message = Message(role="user", content=f"What is {number} plus 2?")
            for arm in ("one", "two"):
                yield Item(f"sum/{number}", (message,), number, max_new_tokens=6), Arm(name=arm)

    def answer(self, engine: Engine, batch: Sequence[tuple[Item, Arm]]) -> list[Answer]:
        self.asked += [(item.id, arm.name) for item, arm in batch]
        said = speak(engine, batch)
        return [
            Answer(item=item.id, arm=arm.name, text=one.text, metrics={"truth": float(item.truth)})
            for (item, arm), one in zip(batch, said, strict=True)
        ]


def test_a_run_that_was_cut_short_goes_on_without_doubling(engine: LocalEngine, tmp_path: Path) -> None:
    first = run(Counting(), engine, tmp_path / "whole", command="test", chunk=4)
    seen: list[tuple[int, int]] = []
    again = Counting()
    folder = tmp_path / "cut"
    run(Counting(), engine, folder, command="test", chunk=2)
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text(
        "".join(lines[:3]) + lines[3][:20]
    )  # as a kill in the middle of a line leaves it
    rows = run(again, engine, folder, command="test", chunk=2, report=lambda done, of: seen.append((done, of)))
    assert rows == first
    assert again.asked == [("sum/1", "one"), ("sum/1", "two"), ("sum/2", "one"), ("sum/2", "two")]  # whole chunks
    assert seen[-1] == (6, 6)
    assert len((folder / "rows.jsonl").read_text().splitlines()) == 6
    done = Counting()
    assert run(done, engine, folder, command="test") == first
    assert done.asked == []


def test_any_text_survives_in_a_row(tmp_path: Path) -> None:
    row = Answer(item="a", arm="b", text="one\u2028two\x85three é\r\n", metrics={})
    line = json.dumps(row.model_dump(mode="json"), ensure_ascii=False).encode()
    cut = line[: line.index("é".encode()) + 1]  # in the middle of a character
    (tmp_path / "rows.jsonl").write_bytes(line + b"\n" + cut)
    assert read_rows(tmp_path) == {("a", "b"): row}


def test_what_does_not_fit_the_window_is_refused_before_anything_is_asked(engine: LocalEngine, tmp_path: Path) -> None:
    class Long(Counting):
        def pairs(self) -> Iterator[tuple[Item, Arm]]:
            yield from super().pairs()
            yield Item("long", (Message(role="user", content="word " * 2000),), 0.0), Arm(name="one")

    experiment = Long()
    with pytest.raises(InputError, match="long needs"):
        run(experiment, engine, tmp_path, command="test")
    assert experiment.asked == []


def test_a_folder_of_another_run_is_refused(engine: LocalEngine, tmp_path: Path) -> None:
    run(Counting(), engine, tmp_path, command="test")
    with pytest.raises(InputError, match="other settings"):
        run(Counting(seed=2), engine, tmp_path, command="test")

    class Others(Counting):
        def pairs(self) -> Iterator[tuple[Item, Arm]]:
            for item, arm in super().pairs():
                yield replace(item, messages=(Message(role="user", content="What is 1 plus 1?"),)), arm

    with pytest.raises(InputError, match="other questions"):
        run(Others(), engine, tmp_path, command="test")
    with held(tmp_path / ".lock", "busy"), pytest.raises(InputError, match="another run is writing"):
        run(Counting(), engine, tmp_path, command="test")
    (tmp_path / "rows.jsonl").write_text('{"item": 3}\n')
    with pytest.raises(InputError, match="line 1"):
        read_rows(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(InputError, match="nothing says what they are"):
        run(Counting(), engine, tmp_path, command="test")


def test_the_manifest_says_what_made_the_rows(engine: LocalEngine, tmp_path: Path) -> None:
    run(Counting(), engine, tmp_path, command="the command")
    found = json.loads((tmp_path / "manifest.json").read_text())
    assert found["model"]["name"] == "pocket"
    assert found["settings"] == {"experiment": "counting", "seed": 1}
    assert found["command"] == "the command"
    assert "torch" in found["versions"]
