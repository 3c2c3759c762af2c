"""`steergraph find`: what the graph's retrieve node finds, in a terminal and as JSON, and bad input in one line."""

import io
import json
import sys
from pathlib import Path

import pytest
from git_repos import git, make_repository

from steergraph.cli import main
from steergraph.repo.repository import Repository
from steergraph.retrieval.retriever import BM25Retriever

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = str(ROOT / "examples" / "pantry.bundle")
ISSUE = str(ROOT / "examples" / "issues" / "stock.md")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def odd(tmp_path):
    where = tmp_path / "odd"
    make_repository(
        where,
        {
            "shop.py": "def total(prices):\n    return sum(prices)\n",
            "evil\u202e.py": "total = 'hidden'\n",
            "escape.py": "# total \x1b]0;title\x07\nx = 1\n",
            "latin.py": "# total caf\xe9\n".encode("latin-1"),
            "weights.py": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        },
    )
    (where / "link").symlink_to("shop.py")
    git(where, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendored")
    git(where, "add", "--", "link")
    git(where, "commit", "-q", "-m", "links")
    return where


def found(capsys, *arguments):
    code = main(["find", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


def test_it_is_the_call_of_the_retrieve_node(capsys):
    code, record = found(capsys, "--repo", BUNDLE, "--issue", ISSUE, "--budget", "300", "--suspect", "low_items")
    assert code == 0
    with Repository.open(BUNDLE) as repository:
        sha = repository.resolve()
        text = Path(ISSUE).read_text(encoding="utf-8")
        direct = BM25Retriever().retrieve(repository, sha, text, ["low_items"], 300, lambda said: -(-len(said) // 4))
    expected = direct.model_dump(mode="json")
    expected["ranked"] = expected["ranked"][:10]
    assert record == {"repo": BUNDLE, "commit": sha, "budget": 300, **expected, "unsearched": {}}
    assert record["ranked"][0]["path"] == "pantry/stock.py" and record["passages"] and record["tokens"] <= 300
    assert any("low_items" in line and "name" in line for line in record["ranked"][0]["why"])
    assert all(passage["why"] for passage in record["passages"])


def test_in_a_terminal(capsys):
    assert main(["find", "--repo", BUNDLE, "--issue", ISSUE, "--files", "2", "--budget", "200"]) == 0
    shown = capsys.readouterr().out
    assert "pantry/stock.py" in shown and "def low_items" in shown and "of 200 tokens" in shown
    assert "  2  " in shown and "  3  " not in shown
    assert "terms: " in shown and "defines: low_items" in shown and "matches: " in shown


def test_the_plain_ranker(capsys):
    code, record = found(capsys, "--repo", BUNDLE, "--issue", ISSUE, "--ranker", "rank_bm25", "--budget", "300")
    assert code == 0 and record["ranked"][0]["path"] == "pantry/stock.py" and record["passages"]
    assert not any(ranked["why"] for ranked in record["ranked"]) and record["tokens"] <= 300


def test_what_cannot_be_searched_is_said_and_nothing_speaks_to_the_terminal(odd, capsys):
    assert main(["find", "--repo", str(odd), "--issue", "the total is wrong"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x07" not in shown and "\u202e" not in shown
    assert "not searched, a submodule: vendored" in shown and "not searched, a symlink: link" in shown
    assert "left out  latin.py: not UTF-8" in shown and "left out  weights.py: a Git LFS pointer" in shown
    code, record = found(capsys, "--repo", odd, "--issue", "the total is wrong", "--files", "1")
    assert code == 0 and record["unsearched"] == {"a symlink": ["link"], "a submodule": ["vendored"]}
    assert [ranked["path"] for ranked in record["ranked"]] == ["shop.py"]


def test_nothing_found_is_code_1(tmp_path, capsys):
    make_repository(tmp_path / "r", {"a.py": "x = 1\n"})
    code, record = found(capsys, "--repo", tmp_path / "r", "--issue", "zebra crossing")
    assert code == 1 and record["ranked"][0]["score"] == 0


def test_issues_come_as_run_takes_them(odd, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("the total is wrong"))
    assert found(capsys, "--repo", odd, "--issue", "-")[1]["query"] == "the total is wrong"
    sha = git(odd, "rev-parse", "HEAD~1")
    row = {"instance_id": "a__b-1", "repo": "a/b", "base_commit": sha, "problem_statement": "total", "version": "1"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row | {"patch": "CANARY", "hints_text": "CANARY"}) + "\n")
    code, record = found(capsys, "--repo", odd, "--swebench", tmp_path / "rows.jsonl", "--instance", "a__b-1")
    assert code == 0 and record["commit"] == sha and "CANARY" not in json.dumps(record)


def test_a_budget_in_a_tokenizers_own_tokens(odd, tmp_path, capsys):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    for name in (tmp_path, tmp_path / "tokenizer.json"):
        _, record = found(capsys, "--repo", odd, "--issue", "total", "--tokenizer", name, "--budget", "20")
        counted = len(words.encode("\n\n".join(p["text"] for p in record["passages"])).ids)
        assert record["tokens"] == counted <= 20 and record["passages"]


BAD = {
    "no issue": (["--repo", BUNDLE], "give either --issue"),
    "both": (["--repo", BUNDLE, "--issue", "x", "--swebench", "y"], "give either --issue"),
    "no repo": (["--issue", "it fails"], "--issue needs --repo"),
    "no instance": (["--swebench", "rows.jsonl"], "needs --instance"),
    "no dataset": (["--swebench", "rows.jsonl", "--instance", "a"], "no dataset at rows.jsonl"),
    "empty issue": (["--repo", BUNDLE, "--issue", " "], "the issue is empty"),
    "no repository": (["--repo", "nowhere", "--issue", "it fails"], "nowhere: no such file"),
    "no commit": (["--repo", BUNDLE, "--issue", "it fails", "--commit", "dead"], "no commit dead"),
    "transport": (["--repo", "ext::sh -c x", "--issue", "it fails"], "runs commands"),
    "secret": (["--repo", "https://u:s3cret@exa_mple.org/x", "--issue", "it fails"], "host"),
    "no tokenizer": (["--repo", BUNDLE, "--issue", "it fails", "--tokenizer", "none"], "no such tokenizer"),
    "bad tokenizer": (["--repo", BUNDLE, "--issue", "it fails", "--tokenizer", __file__], "not a tokenizer"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_code_2(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, said = BAD[name]
    assert main(["find", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "s3cret" not in error


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "²"])
def test_a_budget_is_a_whole_number(value):
    assert main(["find", "--repo", BUNDLE, "--issue", "x", "--budget", value]) == 2
