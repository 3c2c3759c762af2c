"""Best of n: what counts as the same edit, what is refused, who wins, and what each source contributed."""

import json

import pytest
from batch_help import batch, pantry_rows, repairs
from hypothesis import given
from hypothesis import strategies as st

from steergraph.agents.edits.meaning import edit_key, normalised
from steergraph.evals.swebench.candidates import Candidate, choose, contributions, patch_problems
from steergraph.evals.swebench.sources import DOSES, Source, plan_sources

BASE = "def f(x):\n    return x < 1\n"


def diff(header: str = "--- a/p.py\n+++ b/p.py\n", name: str = "p.py", extra: str = "") -> str:
    return f"diff --git a/{name} b/{name}\n{extra}{header}@@ -1 +1 @@\n-a\n+b\n"


def candidate(sample: int, key: str | None, kind: str = "greedy", status: str = "patched", **fields) -> Candidate:
    return Candidate(sample=sample, source=Source(kind=kind, seed=0), status=status, key=key, patch="p", **fields)


def test_layout_and_comments_do_not_make_another_edit():
    same = ["def f(x):\n    return x <= 1\n", "def f( x ):\n\n    # why\n    return (x <= 1)  \n"]
    keys = {edit_key({"a.py": text}, lambda path: BASE) for text in same}
    assert len(keys) == 1 and not keys.pop()[1]
    other, _ = edit_key({"a.py": "def f(x):\n    return x < 2\n"}, lambda path: BASE)
    moved, _ = edit_key({"b.py": same[0]}, lambda path: BASE)
    assert len({other, moved, edit_key({"a.py": same[0]}, lambda path: BASE)[0]}) == 3
    assert edit_key({"a.py": "def f(x):  # new\n    return x < 1\n"}, lambda path: BASE)[1]
    assert edit_key({"a.py": None}, lambda path: BASE)[1] is False
    assert edit_key({"a.txt": "x \n"}, lambda path: "x\n")[1] is True


@pytest.mark.parametrize("text", ["(" * 100_000, "def (", "x = '\\ud800'", "\0", "x\n" * 3_000_000, "é\ud800"])
def test_a_file_that_has_no_tree_is_compared_by_its_lines(text):
    assert normalised("a.py", text) == "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n") or "'" in text
    edit_key({"a.py": text}, lambda path: None)


def test_what_is_refused():
    assert patch_problems(diff()) == ()
    links = diff(extra="new file mode 120000\n", header="--- /dev/null\n+++ b/p.py\n")
    modes = "diff --git a/p.py b/p.py\nold mode 100644\nnew mode 104755\n" + diff().split("\n", 1)[1]
    rename = "diff --git a/p.py b/../q.py\nsimilarity index 90%\nrename from p.py\nrename to ../q.py\n"
    bad = {
        "absolute": diff("--- a//etc/passwd\n+++ b//etc/passwd\n", "/etc/passwd"),
        "up": diff("--- a/../x\n+++ b/../x\n", "../x"),
        "git": diff("--- a/.git/config\n+++ b/.git/config\n", ".git/config"),
        "disguised": diff("--- a/x/.GIT/hooks/y\n+++ b/x/.GIT/hooks/y\n", "x/.GIT/hooks/y"),
        "link": links,
        "setuid": modes,
        "rename": rename + diff().split("\n", 1)[1],
        "binary": "diff --git a/p b/p\nindex 1..2 100644\nBinary files a/p and b/p differ\n",
        "nothing": "hello",
        "cut": "--- a/x\n+++ b/x\n@@ -1,5 +1,5 @@\n a\n",
        "empty": " \n",
        "huge": diff() + "x" * 50_000_000,
    }
    for name, patch in bad.items():
        problems = patch_problems(patch)
        assert problems, name
        assert all("\n" not in line and len(line) < 500 for line in problems), name


@given(st.text(max_size=300) | st.lists(st.sampled_from(diff().splitlines()), max_size=12).map("\n".join))
def test_no_text_makes_it_fail(patch):
    assert isinstance(patch_problems(patch), tuple)


def test_the_majority_of_the_fit_wins():
    voters = [
        candidate(0, "a"),
        candidate(1, "b", "seed"),
        candidate(2, "b", "dose"),
        candidate(3, "c", "seed", refused=("too large",)),
        candidate(4, "c", "seed", refused=("too large",)),
        candidate(5, "c", "seed", refused=("too large",)),
        candidate(6, None, "seed", "no_edit"),
        candidate(7, "d", "seed", empty=True),
        candidate(8, "d", "seed", empty=True),
        candidate(9, "d", "seed", empty=True),
    ]
    choice = choose(voters)
    assert (choice.chosen, choice.status) == (1, "patched")
    assert choice.why == "2 of 3 fit candidates agree on it"
    assert [c.votes for c in choice.candidates] == [1, 2, 2, 0, 0, 0, 0, 0, 0, 0]
    assert choose(voters[:2]).chosen == 0 and "came before" in choose(voters[:2]).why
    assert choose(voters[7:]).chosen == 7
    assert choose(voters[3:7]).chosen is None and choose(voters[3:7]).status == "checks_failed"
    assert choose([candidate(0, None, status="error", error="x"), voters[6]]).status == "no_edit"


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from(["patched", "patched_untested", "no_edit"])),
        min_size=1,
        max_size=8,
    )
)
def test_the_winner_is_fit_and_nobody_has_more_votes(voters):
    candidates = [
        candidate(n, key if status != "no_edit" else None, status=status, refused=("no",) if refused else ())
        for n, (key, refused, status) in enumerate(voters)
    ]
    choice = choose(candidates)
    fit = [c for c in candidates if c.status != "no_edit" and not c.refused]
    if not fit:
        assert choice.chosen is None
        return
    won = candidates[choice.chosen]
    assert choice.status == won.status
    assert won in fit
    counts = [sum(o.key == c.key for o in fit) for c in fit]
    assert sum(o.key == won.key for o in fit) == max(counts)


def test_sources_take_turns_and_more_samples_begin_alike():
    many = plan_sources(20, "dynamic", ["p", "q"], seed=5)
    assert [s.kind for s in many[:7]] == ["greedy", "seed", "dose", "vector", "seed", "dose", "vector"]
    assert plan_sources(7, "dynamic", ["p", "q"], seed=5) == many[:7]
    doses = [s for s in many if s.kind == "dose"]
    assert [s.dose for s in doses[:6]] == list(DOSES) and all(s.temperature == 0 for s in doses[:6])
    vectors = [s for s in many if s.kind == "vector"]
    assert [s.vector for s in vectors[:3]] == ["p", "q", "p"] and vectors[2].temperature > 0
    seeds = [s.seed for s in many if s.kind == "seed"]
    assert len(set(seeds)) == len(seeds) and 5 not in seeds
    assert {s.kind for s in plan_sources(5, "none", ["p"])} == {"greedy", "seed"}
    assert len(set(many)) == len(many)


def test_what_each_source_contributed():
    def record(chosen, *candidates):
        return {"chosen": chosen, "candidates": [c.model_dump(mode="json") for c in choose(candidates).candidates]}

    found = contributions(
        [
            record(0, candidate(0, "a"), candidate(1, "a", "seed"), candidate(2, "b", "dose")),
            record(
                2, candidate(0, None, status="no_edit"), candidate(1, None, "seed", "error"), candidate(2, "z", "dose")
            ),
        ]
    )
    assert found["dose"] == {"samples": 2, "fit": 2, "found_alone": 2, "chosen": 1, "only_source": 1}
    assert found["seed"] == {"samples": 2, "fit": 1, "found_alone": 0, "chosen": 0, "only_source": 0}
    assert found["greedy"] == {"samples": 2, "fit": 1, "found_alone": 0, "chosen": 1, "only_source": 0}


def test_a_batch_chooses_among_its_samples(tmp_path, monkeypatch):
    """Greedy repairs one line, both sampled ones another: the sampled agree and win."""
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))

    def reply(request):
        said = repairs(request)
        return said.replace("<= limit", "!= limit") if not request.sampling.temperature else said

    summary, folder = batch(tmp_path, pantry_rows("stock"), reply, samples=3)
    (instance,) = (folder.path / "instances" / "rag_baseline").iterdir()
    record = json.loads((instance / "record.json").read_text())
    assert record["chosen"] == 1 and "<= limit" in record["patch"]
    assert record["why"] == "2 of 3 fit candidates agree on it"
    assert summary["rag_baseline"]["sources"]["seed"]["chosen"] == 1
    assert summary["rag_baseline"]["sources"]["greedy"]["found_alone"] == 1
