"""Analyses of blobs, queries taken apart, BM25 with fields against its formula, signals, and why a file ranked."""

import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.retrieval.analysis import FIELDS, BlobTerms, analyse
from steergraph.retrieval.corpus import Corpus
from steergraph.retrieval.fields import FIELD_WEIGHTS, Scored
from steergraph.retrieval.mentions import Places, called, frames_in, is_auxiliary, pointed_at
from steergraph.retrieval.pack import Candidate
from steergraph.retrieval.passages import Piece, pieces
from steergraph.retrieval.query import CODE, ERROR, OUTPUT, PROSE, QUOTED, TITLE, parse
from steergraph.retrieval.rerank import BEST, reranked
from steergraph.retrieval.signals import SIGNALS, WEIGHTS, Signals
from steergraph.retrieval.terms import term_id

SOURCE = '''"""The module docstring."""
import os.path
from .units import (
    grams,  # a comment_word
    kilos as k,
)

LIMIT = "string_word"


class Box(object):
    """Class docstring."""

    size = 1

    def open_lid(self, wide):
        # inner_comment
        return f"text_here {wide}" + 'it\\'s'
'''


def test_ids_are_the_same_everywhere():
    assert term_id("dataset") == 0x417A9230896AB525
    assert term_id("dataset") != term_id("Dataset")


def counted(blob: BlobTerms, field: str) -> Counter:
    rows = blob.field == FIELDS.index(field)
    return Counter(dict(zip(blob.term[rows].tolist(), blob.count[rows].tolist(), strict=True)))


def has(blob: BlobTerms, field: str, term: str) -> bool:
    return term_id(term) in counted(blob, field)


def test_terms_stand_in_their_fields():
    blob = analyse("a.py", SOURCE)
    assert has(blob, "doc", "docstring") and not has(blob, "code", "docstring")
    assert has(blob, "comment", "comment_word") and has(blob, "comment", "inner_comment")
    assert has(blob, "string", "string_word") and has(blob, "string", "text_here") and not has(blob, "code", "string")
    assert all(has(blob, "name", name) for name in ("limit", "box", "size", "open_lid", "lid"))
    assert not has(blob, "name", "wide") and has(blob, "code", "wide") and has(blob, "code", "open_lid")
    assert "Box.open_lid" in blob.names
    assert blob.pieces() == pieces("a.py", SOURCE)


@settings(deadline=None, max_examples=150)
@given(st.text(alphabet=st.sampled_from("ab_#\"'\\\n ():=f\té\0"), max_size=80), st.sampled_from(["a.py", "a.js"]))
def test_an_analysis_of_anything_covers_it_and_reads_back(text, path):
    blob = analyse(path, text)
    again = BlobTerms.from_bytes(blob.to_bytes())
    assert again.names == blob.names and again.pieces() == pieces(path, text)
    for one, other in ((again.term, blob.term), (again.count, blob.count), (again.leaf, blob.leaf)):
        assert one.tolist() == other.tolist()
    assert (blob.first[1:] > blob.last[:-1]).all()
    assert len(blob.leaf) == 0 or blob.leaf.max() < len(blob.first)


@pytest.mark.parametrize("data", [b"", b"x" * 60, analyse("a.py", SOURCE).to_bytes()[:-1]])
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError):
        BlobTerms.from_bytes(data)


_HOSTILE = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (40, 40))  # the kernel ends whoever computes longer: minutes become hours here
from steergraph.retrieval.analysis import analyse
from steergraph.retrieval.query import parse
for text in ('\"\"\"\\\\' * 50_000, "'" * 100_000, "from a import (" * 3_000, 'f"' * 50_000, "x: " * 50_000):
    analyse("a.py", text)
for unit in ("`", "a.", "- ", "a-", "/a", 'File "', "<!--"):
    parse(unit * 50_000)
"""


def test_a_hostile_text_takes_no_more_steps_than_a_bound():
    done = subprocess.run([sys.executable, "-c", _HOSTILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ISSUE = """DataArrayRolling ignores `center`
<!-- template_words to be dropped -->
Iterating over min-similarity-lines goes wrong, see https://github.com/x/y/blob/main/pkg/rolling.py#L3

```python
my_data.rolling(x=3)
```

```
Traceback (most recent call last):
  File "/home/me/lib/site-packages/pkg/core/common.py", line 12, in outer
    inner_call()
  File "/home/me/lib/site-packages/pkg/core/rolling.py", line 99, in __iter__
    raise KeyError
KeyError: wrong window_key
```

numpy: 1.16.2
scipy: None
"""


def test_an_issue_is_taken_apart():
    query = parse(ISSUE)
    assert query.parts[TITLE]["dataarrayrolling"] == 1 and query.parts[QUOTED] == {"center": 1}
    assert query.parts[PROSE]["min_similarity_lines"] == 1 and query.parts[CODE]["my_data"] == 1
    assert query.parts[OUTPUT]["inner_call"] == 1 and query.parts[ERROR]["window_key"] == 1
    everything = set().union(*query.parts.values())
    assert not everything & {"template_words", "numpy", "scipy", "https", "github"}
    assert [(f.line, f.name) for f in query.frames] == [(12, "outer"), (99, "__iter__")]
    assert "pkg/rolling.py" in query.paths
    weights = query.weights()
    assert weights["dataarrayrolling"] > weights["iterating"] > weights["my_data"] > 0
    assert not {"3", "x", "the", "be"} & weights.keys()
    assert query.with_names(["open_lid"]).weights()["open_lid"] > 0 and "open_lid" not in weights


@settings(deadline=None)
@given(st.text())
def test_anything_is_an_issue(text):
    query = parse(text)
    assert all(weight > 0 for weight in query.weights().values())


def corpus_of(files: dict[str, str]) -> Corpus:
    return Corpus(sorted(files), [analyse(path, files[path]) for path in sorted(files)])


words = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta"]), max_size=8).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(["a.py", "b.py", "c/d.py"]), words, min_size=1))
def test_scores_are_bm25fs(files):
    corpus = corpus_of(files)
    query = {"alpha": 1.0, "beta": 2.5, "nowhere": 1.0}
    scored = Scored(corpus, query)
    lengths = corpus.lengths
    average = lengths.mean(axis=0)
    for doc, path in enumerate(corpus.paths):
        total = 0.0
        for term, weight in query.items():
            tf = [files[p].split().count(term) for p in corpus.paths]
            n = sum(count > 0 for count in tf)
            if not tf[doc]:
                continue
            idf = math.log(1 + (len(files) - n + 0.5) / (n + 0.5))
            at = FIELDS.index("code")
            own = tf[doc] * FIELD_WEIGHTS["code"] / (0.25 + 0.75 * lengths[doc, at] / average[at])
            total += weight * idf * own * 2.2 / (own + 1.2)
        assert scored.files[doc] == pytest.approx(total, abs=1e-6), path
    assert scored.pooled().shape == (len(files),) and corpus.known(["alpha", "nowhere"]) <= {"alpha"}


def test_a_span_of_one_leaf_is_that_leaf():
    corpus = corpus_of({"a.py": SOURCE, "b.py": "def wide(): pass\n"})
    scored = Scored(corpus, {"open_lid": 1.0, "wide": 1.0})
    for leaf, (first, last) in enumerate(zip(corpus.blobs[0].first, corpus.blobs[0].last, strict=True)):
        score, matched = scored.span(0, int(first), int(last))
        assert score == pytest.approx(scored.leaves[leaf]) and bool(matched) == (score > 0)
    assert scored.span(0, 10_000, 10_001) == (0.0, [])


PATHS = ["docs/conf.py", "pkg/__init__.py", "pkg/core/common.py", "pkg/core/rolling.py", "pkg/io/common.py"]


def test_what_an_issue_points_at():
    places = Places(PATHS)
    found = pointed_at(places, parse(ISSUE))
    assert found[3][0] == 1.0 and found[2] == (0.8, "in a traceback, line 12")
    assert frames_in(places, parse(ISSUE))[3] == [(99, "__iter__")]
    assert pointed_at(places, parse("see common.py"))[2][0] == 0.5
    assert pointed_at(places, parse("pkg.core.rolling.Thing fails")) == {3: (1.0, "named as pkg.core.rolling.Thing")}
    assert pointed_at(places, parse("see nothing.py, /x/y.py and a.b.c")) == {}
    assert called("pkg/__init__.py") == {"pkg"} and called("a/my_file.py") == {"my_file", "my", "file"}


@pytest.mark.parametrize(
    "path, auxiliary",
    [
        ("docs/conf.py", True),
        ("setup.py", True),
        ("requests/packages/urllib3/util.py", True),
        ("packages/core/src/a.py", False),
        ("pkg/tools/x.py", False),
        ("tools/x.py", True),
        ("tests/test_x.py", True),
        ("pkg/documents.py", False),
    ],
)
def test_where_bugs_are_rarely_mended(path, auxiliary):
    assert is_auxiliary(path) is auxiliary


def test_each_file_says_why():
    files = dict.fromkeys(PATHS, "def helper(): pass\n")
    files["pkg/core/rolling.py"] = "class DataArrayRolling:\n    def __iter__(self):\n        return self.center\n"
    signals = Signals(corpus_of(files), parse(ISSUE))
    scores = signals.scores()
    best = int(np.argmax(scores))
    assert PATHS[best] == "pkg/core/rolling.py"
    why = signals.why(best)
    assert [line.split()[1].rstrip(":") for line in why] == ["terms", "functions", "defines", "pointed", "called"]
    assert "DataArrayRolling" in why[2] and "center" in why[0]
    assert sum(float(line.split()[0]) for line in why) == pytest.approx(scores[best], abs=0.03)
    assert ((signals.table >= 0) & (signals.table <= 1)).all() and WEIGHTS.keys() == set(SIGNALS)
    nothing = Signals(corpus_of(files), parse("zzz"))
    assert not nothing.scores().any() and Signals(corpus_of({}), parse("x")).scores().shape == (0,)


class Backwards:
    def scores(self, query, passages):
        return list(range(len(passages)))


class Broken:
    def scores(self, query, passages):
        return [float("nan")] * len(passages)


def test_the_reranker_has_its_say_over_the_best_only():
    lines = {"a.py": [f"x{n}" for n in range(BEST + 10)]}
    found = [Candidate("a.py", Piece(n + 1, n + 1), 1 - n / 1000, [0.0]) for n in range(BEST + 10)]
    again = reranked(Backwards(), "q", found, lines)
    assert again[0].piece.first == BEST and again[BEST:] == found[BEST:] and "reranked" in again[0].why[-1]
    assert reranked(Backwards(), "q", [], lines) == []
    with pytest.raises(InputError, match="reranker"):
        reranked(Broken(), "q", found, lines)
