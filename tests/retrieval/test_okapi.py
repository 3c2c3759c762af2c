"""Sparse Okapi against rank_bm25: the same scores, the same ranking, for any corpus."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from steergraph.repo.repository import Repository
from steergraph.retrieval.okapi import SparseOkapi, TermCounts, term_id
from steergraph.retrieval.retriever import is_test
from steergraph.retrieval.terms import terms

TERMS = st.sampled_from([*"abcdefghij", "snake_case", "é", "\ud800", ""])
CORPORA = st.lists(st.lists(TERMS, max_size=12), min_size=1, max_size=12).filter(any)


@given(
    CORPORA,
    st.lists(TERMS | st.text(max_size=3), max_size=15),
    st.floats(0.1, 3),
    st.floats(0, 0.99),
    st.floats(0, 1),
)
def test_scores_are_rank_bm25s(corpus, query, k1, b, epsilon):
    oracle = BM25Okapi(corpus, k1=k1, b=b, epsilon=epsilon)
    index = SparseOkapi.of(corpus, k1=k1, b=b, epsilon=epsilon)
    expected = oracle.get_scores(query)
    scores = index.get_scores(query)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9)
    for term in {*query, *corpus[0]}:
        assert (term in index) == (term in oracle.idf)
        assert index.idf(term) == pytest.approx(oracle.idf.get(term, 0.0), abs=1e-9)
    for document, score in enumerate(scores):
        parts = index.contributions(query, document)
        assert sum(parts.values()) == pytest.approx(score, abs=1e-9) and parts.keys() <= set(corpus[document])
        assert list(parts.values()) == sorted(parts.values(), reverse=True)


@given(CORPORA, st.lists(TERMS, max_size=6))
def test_parts_of_documents_made_apart_are_the_documents(corpus, query):
    halves = [(document[::2], document[1::2]) for document in corpus]
    joined = [
        TermCounts.join(*(TermCounts.from_bytes(TermCounts.of(half).to_bytes()) for half in pair)) for pair in halves
    ]
    np.testing.assert_allclose(
        SparseOkapi(joined).get_scores(query), SparseOkapi.of(corpus).get_scores(query), rtol=0, atol=1e-12
    )


@given(CORPORA, st.dictionaries(TERMS, st.integers(0, 4), max_size=5))
def test_a_weight_is_a_repetition(corpus, weights):
    index = SparseOkapi.of(corpus)
    repeated = [term for term, times in weights.items() for _ in range(times)]
    np.testing.assert_allclose(index.weighted_scores(weights), index.get_scores(repeated), rtol=0, atol=1e-12)


@pytest.mark.parametrize("corpus", [[], [[]], [[], []]])
def test_nothing_to_find(corpus):
    index = SparseOkapi.of(corpus)
    assert index.get_scores(["a"]).tolist() == [0.0] * len(corpus) == index.get_scores([]).tolist()
    assert "a" not in index and index.idf("a") == 0.0
    assert all(index.contributions(["a"], document) == {} for document in range(len(corpus)))


def test_ids_are_the_same_everywhere():
    assert term_id("dataset") == 0x417A9230896AB525
    assert term_id("dataset") != term_id("Dataset")


@given(st.binary(max_size=40))
def test_bytes_that_are_no_counts_are_refused(data):
    try:
        counts = TermCounts.from_bytes(data)
    except ValueError:
        return
    assert counts.to_bytes() == data


@pytest.mark.realdata
def test_a_real_repository_is_ranked_as_by_rank_bm25(data, tmp_path):
    repository = Repository.open(data / "repos" / "psf__requests.bundle", cache_dir=tmp_path)
    entries = [e for e in repository.files(repository.resolve()) if e.path.endswith(".py") and not is_test(e.path)]
    texts = [file.text or "" for file in repository.read_entries(entries)]
    corpus = [terms(entry.path) + terms(text) for entry, text in zip(entries, texts, strict=True)]
    oracle, index = BM25Okapi(corpus), SparseOkapi.of(corpus)
    for text in texts:
        for query in (terms(text)[:30], terms(text)[-360:]):
            expected, scores = oracle.get_scores(query), index.get_scores(query)
            np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
            assert np.argsort(-scores, kind="stable").tolist() == np.argsort(-expected, kind="stable").tolist()
