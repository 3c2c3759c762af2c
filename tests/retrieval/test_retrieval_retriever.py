"""From an issue to passages, over real repositories; on real instances, the gold file's rank and the gold patch."""

import json
import re
import subprocess

import pytest
from git_repos import add_commit, make_repository
from rank_bm25 import BM25Okapi

from steergraph.base.errors import InputError
from steergraph.repo.repository import Repository
from steergraph.retrieval.retriever import BM25Retriever, Retrieved
from steergraph.retrieval.terms import terms

STOCK = '''"""Stock."""

LIMIT = 2


def low_items(items, limit):
    """Names of the items at or under the limit."""
    return [name for name, left in items.items() if left < limit]


def total(items):
    return sum(items.values())
'''
FILES = {
    "pantry/stock.py": STOCK,
    "pantry/units.py": "def grams(kilos):\n    return kilos * 1000\n",
    "pantry/prices.py": "def price(name):\n    return 1\n",
    "pantry/bad.py": b"\xff\xfe",
    "tests/test_stock.py": "from pantry.stock import low_items\n\n\ndef test_low_items(): low_items({}, 1)\n",
    "README.md": "low_items low_items low_items\n",
}
ISSUE = "low_items leaves out an item that stands exactly at the limit"


def tokens(text: str) -> int:
    return -(-len(text) // 3)


@pytest.fixture
def pantry(tmp_path):
    make_repository(tmp_path / "pantry", FILES)
    with Repository.open(tmp_path / "pantry") as repository:
        yield repository


def test_the_function_is_found(pantry):
    found = BM25Retriever().retrieve(pantry, "HEAD", ISSUE, ["limit", "nowhere_to_be_found"], 500, tokens)
    assert found.ranked[0].path == "pantry/stock.py"
    best = found.passages[0]
    assert (best.path, best.first_line, best.last_line) == ("pantry/stock.py", 6, 8)
    assert best.text.splitlines()[:2] == ["### pantry/stock.py", "6|def low_items(items, limit):"]
    assert found.query == f"{ISSUE}\nlimit" and found.tokens <= 500
    assert [(c.path, c.why) for c in found.cut if c.first_line is None] == [("pantry/bad.py", "not UTF-8")]
    assert Retrieved.model_validate(json.loads(found.model_dump_json())) == found
    assert {r.path for r in found.ranked} == {"pantry/stock.py", "pantry/units.py", "pantry/prices.py"}
    assert found == BM25Retriever().retrieve(pantry, "main", ISSUE, ["limit"], 500, tokens)


def test_the_plain_ranker_is_rank_bm25_itself_over_whole_files(pantry):
    found = BM25Retriever(ranker="rank_bm25").retrieve(pantry, "HEAD", ISSUE, ["limit", "nowhere"], 500, tokens)
    documents = {path: text for path, text in FILES.items() if path.startswith("pantry/") and isinstance(text, str)}
    scores = BM25Okapi([terms(path) + terms(text) for path, text in documents.items()]).get_scores(
        [*terms(ISSUE), "limit"]
    )
    assert {r.path: r.score for r in found.ranked} == pytest.approx(dict(zip(documents, scores, strict=True)))
    assert found.ranked[0].path == found.passages[0].path == "pantry/stock.py" and not found.ranked[0].why
    assert (found.passages[0].first_line, found.passages[0].why) == (6, ("+0.40 its file",))
    assert found.query == f"{ISSUE}\nlimit" and [c.why for c in found.cut if not c.first_line] == ["not UTF-8"]
    with pytest.raises(InputError, match="no ranker 'okapi': there are fields and rank_bm25"):
        BM25Retriever(ranker="okapi")


def test_test_files_are_an_option(pantry):
    found = BM25Retriever(include_tests=True).retrieve(pantry, "HEAD", ISSUE, [], 500, tokens)
    assert "tests/test_stock.py" in {r.path for r in found.ranked}


@pytest.mark.parametrize("budget", [-1, 0, 1, 20, 60, 300])
def test_small_budgets_hold(pantry, budget):
    found = BM25Retriever().retrieve(pantry, "HEAD", ISSUE, [], budget, tokens)
    assert found.tokens <= max(0, budget)
    assert found.tokens == tokens("\n\n".join(p.text for p in found.passages))


def test_a_repository_without_python(tmp_path):
    make_repository(tmp_path / "r", {"src/a.js": "function lowItems() {}\n", "b.bin": b"\0", "x\ny": "lowItems"})
    found = BM25Retriever().retrieve(Repository.open(tmp_path / "r"), "HEAD", "lowItems", [], 100, tokens)
    assert (
        [r.path for r in found.ranked] == ["src/a.js"]
        and "binary" in {c.why for c in found.cut}
        and found.passages[0].first_line == 1
    )


def test_nothing_to_rank(tmp_path):
    make_repository(tmp_path / "r", {"b.bin": b"\0"})
    found = BM25Retriever().retrieve(Repository.open(tmp_path / "r"), "HEAD", "x", ["y"], 100, tokens)
    assert found.ranked == () and found.passages == () and found.tokens == 0
    with pytest.raises(InputError, match="no commit"):
        BM25Retriever().retrieve(Repository.open(tmp_path / "r"), "0" * 40, "x", [], 100, tokens)


def test_a_blob_is_read_once_and_memory_is_bounded(tmp_path, monkeypatch):
    where = tmp_path / "r"
    (first,) = make_repository(where, FILES)
    second = add_commit(where, {"pantry/units.py": "def grams(kilos):\n    return 1000 * kilos\n"})
    repository = Repository.open(where)
    read: list[str] = []
    plain = repository.read_entries
    monkeypatch.setattr(
        repository, "read_entries", lambda entries: (read.extend(e.blob for e in entries), plain(entries))[1]
    )
    retriever = BM25Retriever(files=0)
    once = retriever.retrieve(repository, first, ISSUE, [], 500, tokens)
    before = len(read)
    assert retriever.retrieve(repository, first, ISSUE, [], 500, tokens) == once
    retriever.retrieve(repository, second, ISSUE, [], 500, tokens)
    assert len(read[before:]) == 1
    small = BM25Retriever(files=0, kept_bytes=10)
    assert small.retrieve(repository, first, ISSUE, [], 500, tokens) == once
    assert small._analyses._kept.held == 0 and len(retriever._analyses._kept) == 5


def rows_of(data, *repositories):
    import pyarrow.parquet as pq

    rows = pq.read_table(data / "swebench" / "lite_test.parquet").to_pylist()
    return [row for row in rows if row["repo"] in repositories]


def bundle_of(data, row):
    return data / "repos" / f"{row['repo'].replace('/', '__')}.bundle"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.realdata
def test_the_gold_files_of_flask_and_requests(data, cache):
    """rank_bm25 over identifiers and sub-words: the ranks that were measured, so that the terms stay as they are."""
    retriever = BM25Retriever(files=3, ranker="rank_bm25")
    ranks = {}
    for row in rows_of(data, "pallets/flask", "psf/requests"):
        repository = Repository.open(bundle_of(data, row), cache_dir=cache)
        found = retriever.retrieve(repository, row["base_commit"], row["problem_statement"], [], 500, tokens)
        gold = re.findall(r"^--- a/(.+)$", row["patch"], flags=re.MULTILINE)[0]
        ranks[row["instance_id"]] = [ranked.path for ranked in found.ranked].index(gold) + 1
        assert found.passages and found.tokens <= 500 and len({p.path for p in found.passages}) >= 1
    print(ranks)
    assert ranks == {
        "pallets__flask-4045": 4,
        "pallets__flask-4992": 1,
        "pallets__flask-5063": 3,
        "psf__requests-1963": 1,
        "psf__requests-2148": 1,
        "psf__requests-2317": 4,
        "psf__requests-2674": 1,
        "psf__requests-3362": 2,
        "psf__requests-863": 1,
    }


@pytest.mark.realdata
def test_gold_patches_apply_in_the_working_copy(data, cache, tmp_path):
    for row in rows_of(data, "pallets/flask", "psf/requests"):
        repository = Repository.open(bundle_of(data, row), cache_dir=cache)
        later = repository.resolve()
        with repository.working_copy(row["base_commit"], tmp_path / row["instance_id"]) as copy:
            copy.git("apply", "--check", input=row["patch"].encode())
            copy.git("apply", input=row["patch"].encode())
            assert copy.git("diff", "--stat")
            known = subprocess.run(["git", "cat-file", "-e", later], cwd=copy.path, capture_output=True)
            assert known.returncode != 0
