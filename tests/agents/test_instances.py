"""SWE-bench files in, prediction rows out; gold columns are never read."""

import json

import pytest

from steergraph.agents.instances import COLUMNS, find_instance, prediction, read_instances, task_of
from steergraph.base.errors import InputError

ROW = {
    "instance_id": "pallets__flask-1",
    "repo": "pallets/flask",
    "base_commit": "a" * 40,
    "version": "2.0",
    "problem_statement": "It breaks",
    "patch": "GOLD",
    "test_patch": "GOLD",
    "hints_text": "GOLD",
    "FAIL_TO_PASS": "GOLD",
    "PASS_TO_PASS": "GOLD",
}


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows_without_gold(tmp_path, suffix):
    path = tmp_path / f"data.{suffix}"
    if suffix == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([ROW]), path)
    else:
        path.write_text(json.dumps([ROW] if suffix == "json" else ROW))
    assert read_instances(path) == [{name: ROW[name] for name in COLUMNS}]
    task = task_of(find_instance(path, "pallets__flask-1"), "repo")
    assert "GOLD" not in task.model_dump_json()
    assert (task.project, task.version, task.base_commit) == ("pallets/flask", "2.0", "a" * 40)


def test_an_unknown_id_names_the_nearest(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([ROW]))
    with pytest.raises(InputError, match="nearest are pallets__flask-1"):
        find_instance(path, "pallets__flask-2")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"[1]"),
        ("a.json", b"[]"),
        ("a.jsonl", b"\xff\xfe"),
        ("a.json", json.dumps([{"instance_id": "x"}]).encode()),
        ("a.parquet", b"PAR1 not really"),
        ("a.csv", b"instance_id"),
    ],
)
def test_a_file_that_is_no_dataset_is_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_instances(path)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_predictions_load_in_the_official_loader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from swebench.harness.utils import get_predictions_from_file

    path = tmp_path / "prediction.jsonl"
    rows = [prediction("a__b-1", None, "org/model", "auto"), prediction("a__b-2", "diff", "pocket", "dynamic")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert get_predictions_from_file(str(path), "unused", "test") == rows
    assert rows[0]["model_patch"] == "" and rows[0]["model_name_or_path"] == "steergraph-org__model-auto"


@pytest.mark.realdata
def test_the_real_files(data):
    sizes = {"lite_dev": 23, "lite_test": 300, "verified_test": 500}
    assert {name: len(read_instances(data / "swebench" / f"{name}.parquet")) for name in sizes} == sizes
