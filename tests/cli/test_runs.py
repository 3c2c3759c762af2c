"""The run folder: whole files or none, a trace that survives a kill."""

import json

import pytest

from steergraph.base.errors import InputError
from steergraph.cli.run_folder import RunFolder


def test_a_cut_last_line_of_the_trace_is_dropped(tmp_path):
    folder = RunFolder.create(str(tmp_path / "r"), "name", {"x": 1})
    folder.append_trace({"event": "one"})
    with (folder.path / "trace.jsonl").open("ab") as file:
        file.write(b'{"event": "half')
    folder.append_trace({"event": "two", "text": "é\u2028"})
    lines = (folder.path / "trace.jsonl").read_bytes().split(b"\n")
    assert [json.loads(line)["event"] for line in lines[:-1]] == ["one", "two"]
    (folder.path / "trace.jsonl").write_bytes(b"no newline at all")
    folder.append_trace({"event": "three"})
    assert json.loads((folder.path / "trace.jsonl").read_text()) == {"event": "three"}


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    RunFolder.create(str(tmp_path / "r"), "name", {"x": 1})
    with pytest.raises(InputError, match="already holds a run"):
        RunFolder.create(str(tmp_path / "r"), "name", {"x": 2})
    assert RunFolder(tmp_path / "r").record == {"x": 1}
    with pytest.raises(InputError, match="lacks"):
        RunFolder.open(str(tmp_path / "r"))


def test_folders_are_named_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {str(RunFolder.create(None, "An issue: é / ..", {}).path) for _ in range(3)}
    assert len(paths) == 3 and all(p.startswith("runs/") and ".." not in p for p in paths)


def test_nothing_is_half_written(tmp_path, monkeypatch):
    folder = RunFolder.create(str(tmp_path / "r"), "name", {})
    folder.write("outcome.json", "old")
    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"):
        folder.write("outcome.json", "new")
    assert (folder.path / "outcome.json").read_text() == "old"
    assert not list(folder.path.glob(".outcome*"))


def test_no_run_here(tmp_path):
    with pytest.raises(InputError, match="no run to resume"):
        RunFolder.open(str(tmp_path))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the run folder"):
        RunFolder.create(str(tmp_path / "file" / "run"), "name", {})


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    folder = RunFolder.create(str(tmp_path / "r"), "name", {})
    (folder.path / "checkpoint.sqlite").write_bytes(b"not a database at all, whatever its name says" * 10)
    with pytest.raises(InputError, match="checkpoint"), folder.checkpointer():
        pass
