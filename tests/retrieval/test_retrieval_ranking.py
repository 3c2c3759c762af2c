"""Terms, BM25 ranking, pieces of files and packing: on small texts, and on anything hypothesis comes up with."""

import ast
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from steergraph.retrieval.mentions import is_test
from steergraph.retrieval.pack import SEPARATOR, Candidate, best_window, pack
from steergraph.retrieval.passages import Piece, enclosing, imports, pieces, split_lines
from steergraph.retrieval.rank import Index
from steergraph.retrieval.retriever import suspect_terms
from steergraph.retrieval.terms import sub_words, terms


@pytest.mark.parametrize(
    "text, found",
    [
        ("snake_case", ["snake_case", "snake", "case"]),
        ("camelCase", ["camelcase", "camel", "case"]),
        ("HTTPResponse", ["httpresponse", "http", "response"]),
        ("parseURL2_x", ["parseurl2_x", "parse", "url", "2", "x"]),
        ("__init__", ["__init__"]),
        ("a.b(c)", ["a", "b", "c"]),
        ("3 4.5 é", ["é"]),
        ("x1", ["x1", "x", "1"]),
        ("", []),
    ],
)
def test_terms(text, found):
    assert terms(text) == found


@settings(deadline=None)
@given(st.text())
def test_terms_of_anything(text):
    found = terms(text)
    assert found == terms(text) and all(re.fullmatch(r"\w+", term) for term in found)
    assert terms(text + "\n" + text) == found + found


@settings(deadline=None)
@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True))
def test_sub_words_lose_no_letter(identifier):
    words = sub_words(identifier)
    assert not words or "".join(words) == identifier.replace("_", "").lower()


words = st.lists(st.sampled_from("abcdefgh"), max_size=12)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([f"f{n}.py" for n in range(8)]), words, min_size=1), words)
def test_scores_are_rank_bm25s_and_ties_go_by_name(documents, query):
    ranked = Index(documents).rank(query)
    assert sorted(r.path for r in ranked) == sorted(documents)
    assert ranked == sorted(ranked, key=lambda r: (-r.score, r.path))
    if any(documents.values()):
        oracle = dict(zip(documents, BM25Okapi(list(documents.values())).get_scores(query), strict=True))
        assert all(abs(r.score - oracle[r.path]) < 1e-9 for r in ranked)


def test_what_is_empty_or_nowhere_scores_nothing():
    assert Index({}).rank(["x"]) == [] and [r.score for r in Index({"-": [], "+": []}).rank(["x"])] == [0, 0]
    index = Index({"a.py": terms("class Blueprint: pass"), "b.py": []})
    assert [r.path for r in index.rank(terms("`Blueprint.register` fails"))] == ["a.py", "b.py"]
    assert index.idf("nowhere") == 0 and "blueprint" in index and "nowhere" not in index


def test_suspects_that_are_nowhere_add_nothing():
    index = Index({"a.py": terms("def load_config(path): pass"), "b.py": terms("validate blueprint name")})
    assert suspect_terms(["load_config", "a.load_config()"], index) == ["load_config", "load", "config"]
    assert suspect_terms(["validate_blueprint_name", "NoSuchThing", "", "(;)"], index) == []


@pytest.mark.parametrize(
    "path, test",
    [
        ("tests/test_a.py", True),
        ("pkg/testing/x.py", True),
        ("a_test.py", True),
        ("pkg/latest.py", False),
        ("pkg/attest/contest.py", False),
        ("src/Test.py", True),
    ],
)
def test_the_official_rule_for_test_files(path, test):
    assert is_test(path) is test


SOURCE = '''"""Doc."""

import os

LIMIT = 3


@decorate(
    1
)
def first(x):
    return x


class Box:
    size = 1

    def open(self):
        return 1

    async def close(self):
        def inner(): ...
        return inner


if LIMIT:
    y = 1
'''


def test_pieces_are_whole_functions_and_classes():
    lines = SOURCE.split("\n")
    found = {(p.name, lines[p.first - 1].strip(), lines[p.last - 1].strip()) for p in pieces("a.py", SOURCE)}
    assert found == {
        ("", '"""Doc."""', "LIMIT = 3"),
        ("first", "@decorate(", "return x"),
        ("Box", "class Box:", "return inner"),
        ("", "class Box:", "size = 1"),
        ("Box.open", "def open(self):", "return 1"),
        ("Box.close", "async def close(self):", "return inner"),
        ("", "if LIMIT:", "y = 1"),
    }


@pytest.mark.parametrize("text", ["def f(:\n" * 100, "x = '\n", "\0", "a\n\n\nb\n" * 60, "(" * 5000])
def test_a_file_that_does_not_parse_is_cut_into_windows(text):
    lines = split_lines(text)
    found = pieces("a.py", text)
    covered = {n for piece in found for n in range(piece.first, piece.last + 1)}
    assert {n for n, line in enumerate(lines, 1) if line.strip()} <= covered
    assert all(not one.overlaps(other) for one in found for other in found if one is not other)
    assert pieces("a.txt", SOURCE)[0].first == 1 and pieces("a.py", " \n\n") == []


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_pieces_of_anything_stay_inside(text):
    count = len(split_lines(text))
    for piece in pieces("a.py", text):
        assert 1 <= piece.first <= piece.last <= count


def test_lines_are_numbered_as_python_numbers_them():
    text = "a = 1\r\nb = '''\x0c'''\r\n\x0c\ndef f():\n    return '\u2028'\n"
    function = next(n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef))
    assert split_lines(text)[function.lineno - 1] == "def f():" and len(split_lines(text)) == 5
    assert split_lines("") == [] and split_lines("a") == ["a"] and split_lines("a\n\n") == ["a", ""]


def tokens(text: str) -> int:
    return len(text) // 3


def candidate(path, first, last, score, weights=None):
    return Candidate(path, Piece(first, last), score, weights or [0.0] * (last - first + 1))


LINES = {"a.py": [f"line_{n} = {n}" for n in range(1, 201)], "b.py": [f"other_{n} = {n}" for n in range(1, 51)]}


def test_best_first_without_overlaps():
    packed, total, cut = pack(
        [candidate("a.py", 1, 10, 0.9), candidate("a.py", 5, 8, 0.8), candidate("b.py", 5, 8, 0.7)], LINES, 1000, tokens
    )
    assert [(p.path, p.first_line, p.last_line) for p in packed] == [("a.py", 1, 10), ("b.py", 5, 8)]
    assert packed[0].text.startswith("### a.py\n1|line_1 = 1\n") and not cut
    assert total == tokens(SEPARATOR.join(p.text for p in packed))


def test_too_long_is_trimmed_to_where_it_matches_and_that_is_said():
    weights = [0.0] * 200
    weights[120] = 5.0
    packed, total, cut = pack(
        [candidate("a.py", 1, 200, 1.0, weights), candidate("b.py", 1, 5, 0.5)], LINES, 300, tokens
    )
    assert packed[0].first_line <= 121 <= packed[0].last_line and packed[0].tokens <= 250 and total <= 300
    assert packed[1].path == "b.py"
    assert cut[0].first_line == 1 and f"trimmed to lines {packed[0].first_line}-{packed[0].last_line}" in cut[0].why


def test_too_long_for_what_is_left_is_skipped():
    packed, _, cut = pack(
        [candidate("a.py", 1, 40, 1.0), candidate("b.py", 1, 40, 0.9), candidate("b.py", 45, 46, 0.1)],
        LINES,
        420,
        tokens,
    )
    assert [(p.path, p.first_line) for p in packed] == [("a.py", 1), ("b.py", 45)]
    assert [(c.path, c.first_line) for c in cut] == [("b.py", 1)] and "were left" in cut[0].why


def test_best_window_has_its_match_in_the_middle():
    assert best_window([0, 0, 0, 1, 0, 0, 0], 3) == 2
    assert best_window([0, 2, 1, 0, 0], 2) == 1
    assert best_window([0, 0], 2) == 0


counts = st.sampled_from(
    [tokens, len, lambda s: 7, lambda s: len(s.split()), lambda s: len(s) ** 2 // 50, lambda s: 40 - len(s) // 40]
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(LINES)), st.integers(1, 45), st.integers(0, 60), st.floats(0, 1)), max_size=30
    ),
    st.integers(-5, 600),
    counts,
)
def test_the_budget_is_never_exceeded(drawn, budget, count):
    candidates = [candidate(p, first, min(first + length, len(LINES[p])), score) for p, first, length, score in drawn]
    packed, total, _ = pack(candidates, LINES, budget, count)
    assert total == (count(SEPARATOR.join(p.text for p in packed)) if packed else 0)
    assert not packed or total <= budget
    spans = [(p.path, Piece(p.first_line, p.last_line)) for p in packed]
    for n, (path, piece) in enumerate(spans):
        assert all(path != other or not piece.overlaps(span) for other, span in spans[n + 1 :])


def test_a_method_comes_with_its_class_and_its_files_imports() -> None:
    text = (
        "import os\nfrom a import (\n    b,\n)\n\n\nclass Shelf(\n    Base,\n):\n    room = 3\n\n"
        "    def put(self, jar):\n        return jar\n\n    def take(self):\n        return 0\n"
    )
    lines = text.split("\n")
    method = next(piece for piece in pieces("shelf.py", text) if piece.name == "Shelf.put")
    assert enclosing(lines, method.first) == Piece(7, 9)
    assert enclosing(lines, method.first + 1) == Piece(12, 12), "a part of a method is inside of the method"
    assert enclosing(lines, 1) is None
    assert imports(lines) == Piece(1, 4)
    candidate = Candidate("shelf.py", method, 1.0, [1.0, 1.0])
    shown, tokens, _ = pack([candidate], {"shelf.py": lines}, 500, len)
    assert [(p.first_line, p.last_line) for p in shown] == [(1, 4), (7, 9), (method.first, method.last)]
    assert tokens == len("\n\n".join(p.text for p in shown)) <= 500
    alone, _, _ = pack([candidate], {"shelf.py": lines}, len(shown[-1].text), len)
    assert alone == shown[-1:], "what ranked is not given up for what is around it"
