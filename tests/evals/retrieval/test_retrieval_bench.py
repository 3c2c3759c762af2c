"""The retrieval bench: gold, recall and budgets as defined, weights fitted, a run that goes on; and rerankers."""

import json

import pytest
from git_repos import make_repository

from steergraph.agents.rerank import load_reranker
from steergraph.base.errors import InputError
from steergraph.cli import main
from steergraph.evals.retrieval import measure
from steergraph.evals.retrieval.gold import Function, gold_files, gold_functions, gold_patches
from steergraph.evals.retrieval.weights import fit, held_out, ranked
from steergraph.repo.repository import Repository
from steergraph.retrieval.pack import Passage
from steergraph.retrieval.retriever import BM25Retriever
from steergraph.retrieval.signals import SIGNALS

STOCK = '''import math


class Shelf:
    """Where things stand."""

    limit = 2

    def low_items(self, items):
        return [name for name, left in items.items() if left < self.limit]

    def total(self, items):
        return sum(items.values())
'''
OTHER = "def grams(kilos):\n    return kilos * 1000\n"
PATCH = """diff --git a/pantry/stock.py b/pantry/stock.py
--- a/pantry/stock.py
+++ b/pantry/stock.py
@@ -8,3 +8,4 @@
 
     def low_items(self, items):
-        return [name for name, left in items.items() if left < self.limit]
+        # at the limit, too
+        return [name for name, left in items.items() if left <= self.limit]
diff --git a/pantry/new.py b/pantry/new.py
new file mode 100644
--- /dev/null
+++ b/pantry/new.py
@@ -0,0 +1 @@
+x = 1
"""


def passage(path, first, last):
    return Passage(path=path, first_line=first, last_line=last, score=1.0, text="", tokens=1)


def test_gold_is_what_the_patch_changes():
    assert gold_files(PATCH) == ["pantry/stock.py"]
    (found,) = gold_functions(PATCH, {"pantry/stock.py": STOCK})
    assert (found.path, found.name, found.lines) == ("pantry/stock.py", "Shelf.low_items", (10,))
    assert gold_functions(PATCH, {}) == [] and gold_functions("garbage", {"a": "b"}) == [] and gold_files("") == []


def test_recall_as_swe_bench_defines_it():
    assert measure.recall(["a", "b"], ["b", "c"]) == 0.5 and measure.recall([], ["a"]) == 0
    assert [measure.of_kind(0.5, kind) for kind in ("avg", "all", "any")] == [0.5, 0.0, 1.0]
    assert [measure.of_kind(1.0, kind) for kind in ("avg", "all", "any")] == [1.0, 1.0, 1.0]
    sizes = {"a": 5, "b": 100, "c": 4}
    assert measure.whole_files(["a", "b", "c"], sizes, 10) == ["a", "c"]
    assert measure.whole_files(["a", "c"], sizes, 9) == ["a"]  # strictly less


def test_a_function_is_shown_where_every_changed_line_is():
    gold = [Function(path="a.py", name="f", lines=(3, 9))]
    assert measure.functions_shown([passage("a.py", 1, 5), passage("a.py", 8, 9)], gold) == 1
    assert measure.functions_shown([passage("a.py", 1, 5), passage("b.py", 1, 9)], gold) == 0
    assert measure.functions_in_files(["a.py"], gold) == 1 and measure.functions_in_files(["b.py"], gold) == 0


def record(name, repo, gold, **signals):
    return {"instance_id": name, "repo": repo, "gold": [gold], "signals": signals}


def test_weights_are_fitted_to_what_tells_gold_files_apart():
    say = {"good": [0.2, 1, 0, 0, 0, 0], "bad": [1, 0.1, 0, 0, 0, 0], "tests": [0.2, 1, 0, 0, 0, 1]}
    records = [record(str(n), f"r{n % 2}", "good", **say) for n in range(20)]
    weights = fit(records)
    assert weights["functions"] > weights["terms"] >= 0 > weights["auxiliary"] and weights.keys() == set(SIGNALS)
    assert ranked(records[0], weights)[0] == "good"
    assert fit(records, ["functions"])["functions"] == 0
    assert all(ranking[0] == "good" for ranking in held_out(records).values()) and len(held_out(records)) == 20
    assert held_out(records[:1]) == {}
    # A repository's own instances have no say in how it is judged.
    upside_down = [record("x", "odd", "bad", **say), *records]
    assert held_out(upside_down)["x"][0] == "good"


@pytest.fixture
def dataset(tmp_path):
    (base,) = make_repository(tmp_path / "repos" / "me__pantry", {"pantry/stock.py": STOCK, "pantry/units.py": OTHER})
    (sha,) = make_repository(tmp_path / "repos" / "you__units", {"units.py": OTHER, "other.py": "x = 1\n"})
    change = (
        "--- a/units.py\n+++ b/units.py\n@@ -1,2 +1,2 @@\n def grams(kilos):\n-    return kilos * 1000\n+    return 1\n"
    )
    rows = [
        {"instance_id": "me__pantry-1", "repo": "me/pantry", "base_commit": base, "patch": PATCH,
         "problem_statement": "low_items leaves out an item at the limit"},
        {"instance_id": "you__units-1", "repo": "you/units", "base_commit": sha, "patch": change,
         "problem_statement": "grams of kilos is wrong"},
        {"instance_id": "you__units-2", "repo": "you/units", "base_commit": "0" * 40, "patch": change,
         "problem_statement": "no such commit"},
        {"instance_id": "no__where-1", "repo": "no/where", "base_commit": sha, "patch": change,
         "problem_statement": "no such repository"},
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bench(dataset, *more):
    repos = dataset.parent / "repos"
    return ["bench", "retrieval", "--dataset", str(dataset), "--repos", str(repos), "--jobs", "1", *more]


def test_a_bench_and_its_second_half(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert main(bench(dataset, "--out", str(out), "--instances", "me__pantry-1")) == 0
    lines = (out / "rankings.jsonl").read_text().splitlines()
    found = json.loads(lines[0])
    assert found["gold"] == ["pantry/stock.py"] and found["arms"]["steergraph"]["ranked"][0] == "pantry/stock.py"
    assert found["functions"][0]["name"] == "Shelf.low_items"
    assert found["arms"]["passages"]["functions_at"]["2000"] == 1
    with (out / "rankings.jsonl").open("a") as file:
        file.write('{"instance_id": "you__un')  # a kill in the middle of a line
    capsys.readouterr()
    assert main(bench(dataset, "--out", str(out), "--fit")) == 0
    said = capsys.readouterr()
    assert "me__pantry-1" not in said.err and "you__units-1" in said.err and "left out: no/where" in said.err
    assert "no commit 000000" in said.out and "2 instances of 2 repositories" in said.out
    assert "steergraph, held out" in said.out and "weights:" in said.out and "## Ablation" in said.out
    assert (out / "table.md").read_text() in said.out
    ids = [json.loads(line)["instance_id"] for line in (out / "rankings.jsonl").read_text().splitlines()]
    assert sorted(ids) == ["me__pantry-1", "you__units-1", "you__units-2"]
    (out / "rankings.jsonl").write_text(json.dumps(found | {"settings": "of another version"}) + "\n")
    assert main(bench(dataset, "--out", str(out))) == 2
    assert "other settings" in capsys.readouterr().err


def test_a_bench_that_measured_nothing_says_so_with_its_exit_code(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    rows = [json.loads(line) | {"patch": ""} for line in dataset.read_text().splitlines()]
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(bench(dataset)) == 1
    assert "No instance could be measured" in capsys.readouterr().out


def test_a_bench_of_the_plain_ranker(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert main(bench(dataset, "--ranker", "rank_bm25", "--out", str(out))) == 0
    said = capsys.readouterr().out
    assert "| rank_bm25 identifiers - rank_bm25 whitespace |" in said and "| passages |" in said
    assert "| steergraph" not in said and "held out" not in said
    (found,) = (r for r in map(json.loads, (out / "rankings.jsonl").open()) if r["instance_id"] == "me__pantry-1")
    assert found["arms"]["passages"]["files_at"]["2000"] == 1 and found["signals"] == {}
    assert main(bench(dataset, "--out", str(out))) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more, said",
    [
        (["--ranker", "rank_bm25", "--fit"], "no weights to fit"),
        (["--instances", "nope-1"], "no instance"),
        (["--tokenizer", "/nowhere"], "--tokenizer"),
        (["--rerank", "/nowhere"], "no model there"),
    ],
)
def test_bad_words_are_one_line(dataset, tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    assert main(bench(dataset, *more)) == 2
    assert said in capsys.readouterr().err


def test_a_dataset_without_gold_is_refused(tmp_path):
    (tmp_path / "rows.json").write_text('[{"instance_id": "a"}]')
    with pytest.raises(InputError, match="patch"):
        gold_patches(str(tmp_path / "rows.json"))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """A tiny cross-encoder and a tiny embedding model with random weights, saved by either library."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers import models as modules
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoders")
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "low", "items", "grams"])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64,
    )  # fmt: skip
    sizes = {
        "vocab_size": 7,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    BertForSequenceClassification(BertConfig(**sizes, num_labels=1)).save_pretrained(folder / "cross")
    BertForSequenceClassification(BertConfig(**sizes, num_labels=3)).save_pretrained(folder / "three")
    BertModel(BertConfig(**sizes)).save_pretrained(folder / "bert")
    for name in ("cross", "three", "bert"):
        tokenizer.save_pretrained(folder / name)
    word = modules.Transformer(str(folder / "bert"))
    pooled = modules.Pooling(8)
    sentence_transformers.SentenceTransformer(modules=[word, pooled], device="cpu").save(str(folder / "embedding"))
    sentence_transformers.CrossEncoder(str(folder / "cross"), device="cpu").save(str(folder / "saved"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", [("cross", "Cross"), ("saved", "Cross"), ("embedding", "Embedding")])
def test_a_reranker_of_ones_own(encoders, dataset, name, kind):
    reranker = load_reranker(encoders / name)
    assert type(reranker).__name__.startswith(kind)
    scores = reranker.scores("low items", ["low items", "grams", ""])
    assert len(scores) == 3 and scores == reranker.scores("low items", ["low items", "grams", ""])
    with Repository.open(dataset.parent / "repos" / "me__pantry") as repository:
        found = BM25Retriever(reranker=reranker).retrieve(repository, "HEAD", "low items", [], 500, len)
    assert found.passages and any("reranked" in line for line in found.passages[0].why)


@pytest.mark.slow
def test_what_is_no_reranker_is_refused(encoders, tmp_path):
    with pytest.raises(InputError, match="with 3"):
        load_reranker(encoders / "three")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot load"):
        load_reranker(tmp_path)
