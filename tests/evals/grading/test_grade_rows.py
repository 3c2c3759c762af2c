"""What reaches grading: rows, predictions, patches; and what is said of those that are no good."""

import json
import re
from pathlib import Path
from typing import Any

import grade_help as own
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.evals.grading.rows import Row, gold_predictions, read_predictions, read_rows
from steergraph.evals.patches import refusal
from steergraph.evals.reports.read import read_variants

BASE = "0" * 40


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Row]:
    return read_rows([own.write_jsonl(tmp_path / "data.jsonl", [own.make_row(BASE)])])


def test_rows_of_every_kind_of_file_are_the_same(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    row = own.make_row(BASE)
    (tmp_path / "a.json").write_text(json.dumps([row]))
    (tmp_path / "b.json").write_text(json.dumps({row["instance_id"]: row}))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "c.parquet")
    own.write_jsonl(tmp_path / "d.jsonl", [row])
    read = [read_rows([tmp_path / name]) for name in ("a.json", "b.json", "c.parquet", "d.jsonl")]
    assert all(each == read[0] for each in read)
    assert read_rows([tmp_path / "a.json", tmp_path / "d.jsonl"]) == read[0]
    assert read[0][own.INSTANCE].gold == own.GOLD


@pytest.mark.slow
def test_a_folder_is_a_dataset_as_the_hub_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([own.make_row(BASE)]), tmp_path / "data/test.parquet")
    assert read_rows([str(tmp_path / "data")])[own.INSTANCE].gold == own.GOLD


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"eval_script": None, "log_parser": ""}, "lacks eval_script, log_parser, columns that came with swebench 5"),
        ({"base_commit": None}, "lacks base_commit: this is not a SWE-bench dataset"),
        ({"instance_id": "../../up"}, "cannot name an instance"),
        ({"FAIL_TO_PASS": "["}, "its FAIL_TO_PASS is no list"),
    ],
)
def test_a_row_that_cannot_be_graded_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = own.write_jsonl(tmp_path / "data.jsonl", [own.make_row(BASE), own.make_row(BASE, **change)])
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read_rows([path])
    assert "row 2" in str(error.value) and "\n" not in str(error.value)


def test_only_docker_needs_an_image(tmp_path: Path) -> None:
    path = own.write_jsonl(tmp_path / "data.jsonl", [own.make_row(BASE, image=None)])
    assert read_rows([path])
    with pytest.raises(InputError, match="lacks image"):
        read_rows([path], images=True)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{", b"[1]", b"42", b'{"a": 1}'])
def test_another_schema_is_one_line(tmp_path: Path, content: bytes) -> None:
    for name in ("data.json", "data.jsonl", "data.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as error:
            read_rows([tmp_path / name])
        assert "\n" not in str(error.value)


def test_bad_predictions_are_notes_and_the_others_go_on(tmp_path: Path, rows: dict[str, Row]) -> None:
    path = tmp_path / "p.jsonl"
    lines = [
        json.dumps(own.prediction(own.WRONG)),
        json.dumps(own.prediction(own.NO_OP)),
        json.dumps(own.prediction(own.GOLD, "claims/it")),
        json.dumps(own.prediction(own.GOLD, instance_id="other__thing-9")),
        json.dumps({"instance_id": 5, "model_patch": "x"}),
        json.dumps({"instance_id": own.INSTANCE, "model_patch": ""}),
        json.dumps(own.prediction("x", "..")),
        json.dumps({**own.prediction(None), "model_patch": 7, "model_name_or_path": "seven"}),
        json.dumps(own.prediction(own.NO_OP, "cut"))[:60],
    ]
    path.write_text("\n".join(lines))
    found, notes = read_predictions(path, rows)
    assert [(each.model, each.patch, each.is_gold) for each in found] == [
        ("m", own.NO_OP, False),
        ("claims__it", own.GOLD, True),
        ("unnamed", "", False),
    ]
    said = "\n".join(notes)
    for words in (
        "line 2: own__calc-1 again: the last one is graded",
        "line 4: no instance 'other__thing-9'",
        "line 5: its instance_id is no text",
        "line 6: own__calc-1: no model_name_or_path",
        "line 7: own__calc-1: its model_name_or_path cannot name a folder",
        "line 8: own__calc-1: its model_patch is no text",
        "line 9: cut off or not JSON",
        "1 of 3 predictions are the dataset's own patch",
    ):
        assert words in said
    assert len(notes) == 8


def test_a_prediction_under_other_names_ends_it(tmp_path: Path, rows: dict[str, Row]) -> None:
    """Read as it stands it would be an empty patch."""
    good = own.prediction(own.NO_OP)
    for odd, said in (
        ({"instance_id": own.INSTANCE, "model": "m", "prediction": own.NO_OP}, "lacks model_patch"),
        ({"model_patch": own.NO_OP, "model_name_or_path": "m"}, "lacks instance_id"),
        ({"id": 1}, "lacks instance_id and model_patch"),
    ):
        (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, (good, odd))))
        (tmp_path / "p.json").write_text(json.dumps([good, odd]))
        for name in ("p.jsonl", "p.json"):
            with pytest.raises(InputError, match=said) as error:
                read_predictions(tmp_path / name, rows)
            assert "\n" not in str(error.value) and "2" in str(error.value)
            with pytest.raises(InputError, match=said):
                read_variants([str(tmp_path / name)], [])


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_a_byte_order_mark_loses_nothing(tmp_path: Path, rows: dict[str, Row], ending: str) -> None:
    row = json.dumps(own.prediction(own.NO_OP))
    (tmp_path / f"p.{ending}").write_text(row if ending == "jsonl" else f"[{row}]", encoding="utf-8-sig")
    (found,), notes = read_predictions(tmp_path / f"p.{ending}", rows)
    assert found.patch == own.NO_OP and not notes
    variants = read_variants([str(tmp_path / f"p.{ending}")], notes)
    assert [entry.patch for variant in variants for entry in variant.entries.values()] == [own.NO_OP] and not notes


def test_a_file_with_nothing_to_grade_is_refused(tmp_path: Path, rows: dict[str, Row]) -> None:
    for name, text in (("p.jsonl", '{"instance_id": "nob'), ("p.json", '[{"instance'), ("p.json", "7"), ("p.txt", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError) as error:
            read_predictions(tmp_path / name, rows)
        assert "\n" not in str(error.value)


def test_fingerprints_tell_patches_and_rows_apart(rows: dict[str, Row]) -> None:
    row = rows[own.INSTANCE]
    gold = gold_predictions([row])[0]
    assert gold.is_gold and gold.fingerprint != gold.model_copy(update={"patch": own.WRONG}).fingerprint
    other = row.model_copy(update={"columns": {**row.columns, "eval_script": "x"}})
    assert row.fingerprint != other.fingerprint


def test_ordinary_patches_are_tried() -> None:
    for patch in (own.GOLD, own.NO_OP, own.WRONG, own.GARBAGE, "", "no diff at all", own.TEST_PATCH):
        assert refusal(patch) is None
    # What looks like a header inside a hunk is a line of the file.
    inside = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n---- /etc/passwd\n+++ /../up\n same\n"
    assert refusal(inside) is None
    link = "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+docs/target\n"
    assert refusal(link) is None


@pytest.mark.realdata
def test_no_real_gold_patch_is_refused(data: Path) -> None:
    paths = [data / "swebench" / f"{name}.parquet" for name in ("lite_dev", "lite_test", "verified_test")]
    refused = {name: why for name, row in read_rows(paths).items() if (why := refusal(row.gold))}
    assert not refused


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        (own.NO_OP.replace("b/NOTES.txt", "/etc/cron.d/x"), "it is absolute"),
        (own.NO_OP.replace("b/NOTES.txt", "b//etc/cron.d/x"), "it is absolute"),
        (own.NO_OP.replace("NOTES.txt", "../../up"), "leads out"),
        (own.NO_OP.replace("NOTES.txt", "a/../../up"), "leads out"),
        ('--- /dev/null\n+++ "b/\\056\\056/up"\n@@ -0,0 +1 @@\n+x\n', "leads out"),
        (own.NO_OP.replace("NOTES.txt", ".git/hooks/post-checkout"), "git's own folder"),
        (own.NO_OP.replace("NOTES.txt", "sub/.GIT /config"), "git's own folder"),
        ("Index: .git/hooks/x\n@@ -0,0 +1 @@\n+x\n", "git's own folder"),
        ("*** a/.git/config\t2024\n--- b/.git/config\t2024\n***************\n", "git's own folder"),
        ("diff --git a/x b/x\nrename from x\nrename to .git/config\n", "git's own folder"),
        (own.NO_OP.replace("100644", "160000"), "file mode 160000"),
        (own.NO_OP.replace("100644", "104755"), "file mode 104755"),
        (own.NO_OP.replace("100644", "120000").replace("+no-op", "+/etc/shadow"), "symbolic link to '/etc/shadow'"),
        (own.NO_OP.replace("100644", "120000").replace("+no-op", "+../../up"), "symbolic link to"),
        (own.GOLD + "\0", "NUL"),
        (own.GOLD + "\ud800", "half characters"),
        (own.GOLD + "+x" * (26 << 20), "55 MB, more than the 10 MB"),
    ],
)
def test_patches_that_reach_out_are_refused(patch: str, said: str) -> None:
    why = refusal(patch)
    assert why is not None and said in why and "\n" not in why


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=300) | st.lists(st.sampled_from([*own.GOLD.splitlines(), "+../x", "--- a/.git"])).map("\n".join)
)
def test_no_text_makes_the_look_at_a_patch_fail(patch: str) -> None:
    why = refusal(patch)
    assert why is None or "\n" not in why
