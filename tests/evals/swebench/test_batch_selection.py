"""Datasets by file and by name, what is wrong with them, and which of their instances are taken."""

import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.evals.swebench.datasets import load_dataset
from steergraph.evals.swebench.selection import balanced, select

REPOS = ("django/django", "sympy/sympy", "pylint-dev/pylint", "me/mine")


def row(n: int = 1, repo: str = "a/b", **fields) -> dict:
    base = {"instance_id": f"{repo.replace('/', '__')}-{n}", "repo": repo, "base_commit": "c" * 40, "version": "1"}
    return {**base, "problem_statement": "it fails", "patch": "canary", **fields}


def v5(n: int = 1, **fields) -> dict:
    return row(n, image="i", eval_script="s", log_parser="l", eval_type="t", **fields)


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


@pytest.mark.parametrize("ending", ["parquet", "json", "jsonl"])
def test_files(ending, tmp_path):
    found = load_dataset(write(tmp_path / f"d.{ending}", [v5(1), v5(2)]))
    assert [r["instance_id"] for r in found.rows] == ["a__b-1", "a__b-2"] and not found.notes
    assert all("canary" not in str(r) for r in found.rows)
    (note,) = load_dataset(write(tmp_path / f"old.{ending}", [row(1)])).notes
    assert "image, eval_script, log_parser, eval_type" in note and "SWE-bench_Verified" in note


@pytest.mark.slow
def test_a_name_is_read_by_the_hubs_own_library(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "test-00000-of-00001.parquet", [v5(1), v5(2)])
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)
    found = load_dataset(str(tmp_path))
    assert [r["instance_id"] for r in found.rows] == ["a__b-1", "a__b-2"] and not found.notes
    assert found.name.endswith(":test") and "canary" not in str(found.rows)
    with pytest.raises(InputError, match="split dev"):
        load_dataset(str(tmp_path), "dev")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="no such file, and the hub does not give it") as caught:
        load_dataset("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer_is_asked_once_and_said_in_a_line(tmp_path, monkeypatch, capfd):
    """Nothing listens at the discard port: its library would ask there again and again for half a minute."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(InputError, match="nor does the hub answer") as caught:
        load_dataset("verified")
    assert "\n" not in str(caught.value) and time.monotonic() - started < 30
    assert "Retrying" not in "".join(capfd.readouterr())
    import datasets
    from huggingface_hub import constants

    assert not (constants.HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE)


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path, ending):
    text = json.dumps(row(1)) if ending == "jsonl" else json.dumps([row(1)])
    (tmp_path / f"d.{ending}").write_text(text, encoding="utf-8-sig")
    found = load_dataset(str(tmp_path / f"d.{ending}"))
    assert [r["instance_id"] for r in found.rows] == ["a__b-1"]
    (tmp_path / "ids").write_text("a__b-1\n", encoding="utf-8-sig")
    assert select(list(found.rows), [f"@{tmp_path / 'ids'}"]) == list(found.rows)


def test_repeated_rows(tmp_path):
    found = load_dataset(write(tmp_path / "d.jsonl", [v5(1), v5(2), v5(1)]))
    assert len(found.rows) == 2 and "1 repeated row(s) left out, the first of a__b-1" in found.notes[0]
    with pytest.raises(InputError, match="two different rows of a__b-1"):
        load_dataset(write(tmp_path / "e.jsonl", [v5(1), v5(1, problem_statement="else")]))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "q", "answer": "a"}], r"row 1 lacks instance_id, .*not a SWE-bench dataset \(it has question"),
        ([], "no rows"),
        ([v5(1), 5], "row 2 is not an object"),
        ([v5(1), v5(1, instance_id="../../x")], "row 2: '../../x' cannot be an instance's id"),
        ([v5(1, instance_id="")], "cannot be an instance's id"),
        ([v5(1, instance_id="a" * 300)], "cannot be an instance's id"),
        ([v5(1, repo="a/../../b")], "is no repository's owner/name"),
        ([v5(1, repo="--upload-pack=x", instance_id="x-1")], "is no repository's owner/name"),
    ],
)
def test_other_schemas_and_hostile_ids_are_one_line(rows, said, tmp_path):
    with pytest.raises(InputError, match=said) as caught:
        load_dataset(write(tmp_path / "d.jsonl", rows))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_damaged_files_are_one_line(tmp_path):
    for name, content in (
        ("a.jsonl", b'{"instance_id": '),
        ("b.parquet", b"PAR1"),
        ("c.json", b"\xff"),
        ("d.json", b"5"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_dataset(str(tmp_path / name))
        assert name in str(caught.value) and "\n" not in str(caught.value)


ROWS = [row(n, repo) for repo in REPOS for n in range(6)]
IDS = [r["instance_id"] for r in ROWS]


def ids(words) -> list[str]:
    return [r["instance_id"] for r in select(ROWS, words)]


def test_words(tmp_path):
    assert ids([]) == IDS
    assert ids(["0:2"]) == IDS[:2] and ids(["::5"]) == IDS[::5] and ids(["-3:"]) == IDS[-3:]
    assert ids(["::-1"]) == IDS
    assert ids(["/sympy-[12]$/"]) == ["sympy__sympy-1", "sympy__sympy-2"]
    assert ids(["sympy__sympy-3, django__django-0"]) == ["django__django-0", "sympy__sympy-3"]
    assert ids(["/^sympy/", "1:3"]) == ["sympy__sympy-1", "sympy__sympy-2"]
    (tmp_path / "ids").write_text("me__mine-5\nme__mine-0\n")
    assert ids([f"@{tmp_path / 'ids'}"]) == ["me__mine-0", "me__mine-5"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("sympy__simpy-3", "nearest are sympy__sympy-3"),
        ("100:", "no instance is left"),
        ("0:5:0", "step"),
        ("/(/", "not a regular expression"),
        ("balanced:x", "how many"),
        ("balanced:19", "only 18"),
        ("@/no/such", "cannot read it"),
        ("a,b,c", "and 2 more"),
    ],
)
def test_wrong_words(word, said):
    with pytest.raises(InputError, match=said):
        ids([word])


@given(st.lists(st.sampled_from(REPOS), min_size=1, max_size=60), st.integers(1, 40))
def test_a_balanced_sample_has_its_shares(repos, n):
    rows = [row(at, repo) for at, repo in enumerate(repos)]
    of = {repo: [r for r in rows if r["repo"] == repo] for repo in REPOS[:3]}
    if sum(map(len, of.values())) < n:
        with pytest.raises(InputError):
            balanced(rows, n)
        return
    taken = balanced(rows, n)
    assert len(taken) == n
    for found in of.values():  # the first of each, in order
        mine = [r for r in taken if r in found]
        assert mine == found[: len(mine)]
    if all(len(found) >= n for found in of.values()):
        counts = [sum(r in found for r in taken) for found in of.values()]
        assert all(abs(count - n * share / 4) < 1 for count, share in zip(counts, (2, 1, 1), strict=True))


@pytest.mark.parametrize("n", range(1, 41))
def test_no_cluster_is_a_whole_place_from_its_share(n):
    taken = [r["repo"] for r in balanced([row(at, REPOS[at % 3]) for at in range(120)], n)]
    for repo, share in zip(REPOS[:3], (2, 1, 1), strict=True):
        assert abs(taken.count(repo) - n * share / 4) < 1


@pytest.mark.realdata
def test_the_studys_own_sample(data):
    """Its 20 instances are the first of each cluster of Verified, in which it had no astropy."""
    found = load_dataset(str(data / "swebench" / "verified_test.parquet"))
    taken = select(found.rows, ["/^(?!astropy)/", "balanced:20"])
    recorded = (data / "steering_research" / "swebench_predictions_baseline.jsonl").read_text().splitlines()
    assert [r["instance_id"] for r in taken] == [json.loads(line)["instance_id"] for line in recorded]
