"""Files ranked by BM25 alone: rank_bm25's ranking, at any commit, from the cache or not."""

from collections import Counter

import numpy as np
import pytest
from git_repos import add_commit, make_repository
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from steergraph.repo.repository import Repository
from steergraph.retrieval import plain
from steergraph.retrieval.counting import count_terms
from steergraph.retrieval.okapi import SparseOkapi, TermCounts
from steergraph.retrieval.plain import CountStore, PlainIndex
from steergraph.retrieval.retriever import is_test
from steergraph.retrieval.term_cache import TermCache
from steergraph.retrieval.terms import terms

CODE = st.text(st.sampled_from("aZ09_ .é\n\r\x00\x85\u2028ſK"), max_size=30)


def summed(counts: TermCounts) -> Counter[int]:
    found: Counter[int] = Counter()
    for name, number in zip(counts.ids.tolist(), counts.counts.tolist(), strict=True):
        found[name] += number
    return found


@given(st.lists(CODE | st.text(max_size=8), max_size=5))
def test_counting_many_at_once_is_counting_each(texts):
    found = count_terms(texts)
    assert [summed(counts) for counts in found] == [summed(TermCounts.of(terms(text))) for text in texts]


def oracle(repository, sha, entries, query):
    """The plain way: every file's terms, rank_bm25, a stable sort."""
    paths = [entry.path for entry in entries]
    texts = [file.text for file in repository.read_entries(entries)]
    scores = BM25Okapi([terms(p) + terms(t or "") for p, t in zip(paths, texts, strict=True)]).get_scores(terms(query))
    return [(paths[at], float(scores[at])) for at in np.argsort(-scores, kind="stable")]


def same(found, expected):
    assert [path for path, _ in found] == [path for path, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], rtol=0, atol=1e-6)


@pytest.mark.realdata
def test_commits_of_a_real_repository_are_ranked_as_by_rank_bm25(data, tmp_path):
    with Repository.open(data / "repos" / "pallets__flask.bundle", cache_dir=tmp_path / "mirrors") as repository:
        store = CountStore(TermCache(tmp_path / "terms"))
        for commit in ("HEAD~40", "HEAD~20", "HEAD"):
            sha = repository.resolve(commit)
            entries = [e for e in repository.files(sha) if e.path.endswith(".py") and not is_test(e.path)]
            index = PlainIndex(repository, entries, store)
            again = PlainIndex(repository, entries, CountStore(TermCache(tmp_path / "terms")))
            for file in list(repository.read_entries(entries))[::6]:
                query = f"{file.path} {(file.text or '')[:800]} not_in_any_file"
                expected = oracle(repository, sha, entries, query)
                same(index.rank(query), expected)
                same(again.rank(query), expected)


def test_the_next_commit_reads_and_counts_what_changed(tmp_path, monkeypatch):
    where = tmp_path / "r"
    (first,) = make_repository(where, {f"m{n}.py": f"value_{n} = {n}\n" for n in range(20)} | {"bad.py": b"\xff"})
    second = add_commit(where, {"m3.py": "changed = 3\n", "new.py": "value_7 = 1\n", "copy.py": "value_5 = 5\n"})
    counted: list[str] = []
    monkeypatch.setattr(
        plain, "count_terms", lambda texts, *rest, real=count_terms: counted.extend(texts) or real(texts, *rest)
    )

    def look(commit: str, store: CountStore) -> tuple[PlainIndex, int, list[str]]:
        counted.clear()
        with Repository.open(where) as repository:
            index = PlainIndex(repository, repository.files(commit), store)
            return index, repository.objects.fetched, [text for text in counted if "=" in text]

    kept = CountStore()
    assert look(first, kept)[1:] == (21, [f"value_{n} = {n}\n" for n in sorted(range(20), key=str)])
    assert look(first, CountStore(TermCache(tmp_path / "terms")))[1] == 21
    for store in (kept, CountStore(TermCache(tmp_path / "terms"))):
        index, fetched, texts = look(second, store)
        assert (fetched, texts) == (2, ["changed = 3\n", "value_7 = 1\n"])
        assert index.rank("changed")[0][0] == "m3.py" and "bad.py" not in index.paths and "copy.py" in index.paths
        assert look(second, store)[1:] == (0, [])
    assert look(first, CountStore(TermCache(tmp_path / "terms")))[1:] == (0, [])


def test_memory_is_bounded_and_the_cache_is_optional(tmp_path):
    where = tmp_path / "r"
    (sha,) = make_repository(where, {f"m{n}.py": f"value_{n} = {n}\n" * 50 for n in range(30)})
    with Repository.open(where) as repository:
        store = CountStore(kept_bytes=2000)
        for _ in range(2):
            index = PlainIndex(repository, repository.files(sha), store)
            same(index.rank("value_7"), oracle(repository, sha, repository.files(sha), "value_7"))
            assert store._kept.held <= 2000


def test_kept_bytes_of_another_make_are_made_anew(tmp_path):
    where = tmp_path / "r"
    (sha,) = make_repository(where, {"a.py": "x = 1\n"})
    with Repository.open(where) as repository:
        (entry,) = repository.files(sha)
        with TermCache(tmp_path / "terms") as cache:
            cache.put_many({plain.Key(plain._KIND, plain.terms.VERSION, entry.blob): b"not counts"})
        found = CountStore(TermCache(tmp_path / "terms")).counts(repository, [entry])
    assert found[0] is not None and summed(found[0]) == summed(TermCounts.of(["x"]))
    assert SparseOkapi([found[0]]).size == 1
