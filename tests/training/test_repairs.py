"""The measurement of repairs: what counts as an edit, and that hidden tests are played in the sandbox."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.sandbox.run import Sandbox
from training.corpus.samples import draw_repair
from training.corpus.speech import say_edit, told_calls
from training.hidden_tests import Verdict, can_be_judged, cases_of, judge, parse_block
from training.repairs import by_function

line = st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs",)), max_size=20).filter(
    lambda text: not text.startswith(("<<<<", "====", ">>>>"))
)


@given(old=st.lists(line, min_size=1, max_size=4), new=st.lists(line, max_size=4))
def test_a_block_is_read_back(old: list[str], new: list[str]) -> None:
    assert parse_block(say_edit("a/b.py", old, new)) == ("a/b.py", old, new)


@pytest.mark.parametrize("text", ["", "no block", "a.py\n<<<<<<< SEARCH\nx\n=======\ny", "a\nb\nc\nd"])
def test_anything_else_is_no_block(text: str) -> None:
    assert parse_block(text) is None


def test_the_expected_edits_pass_their_hidden_tests(sandbox: Sandbox) -> None:
    samples = [
        draw_repair(9, index, split, notes=False)
        for split in ("seen", "names", "phrasings", "families")
        for index in range(30)
    ]
    verdicts = judge(samples, [sample.answer for sample in samples], sandbox)
    assert all(v.exact and v.repaired and v.visible and v.well_formed for v in verdicts)


def test_a_repair_counts_by_what_it_does(sandbox: Sandbox) -> None:
    sample = next(
        s for s in (draw_repair(1, i, "seen", notes=False) for i in range(50)) if s.family == "comparison" and s.scene
    )
    assert sample.scene is not None
    target, piece = sample.scene.passages[sample.scene.target], sample.scene.piece
    head = sample.scene.start + 1
    whole = say_edit(target.path, list(target.lines), list(sample.scene.fixed))
    noted = [*sample.scene.fixed[:head], "    # another way to say it", *sample.scene.fixed[head:]]
    answers = {
        "whole": whole,
        "noted": say_edit(target.path, list(target.lines), noted),
        "elsewhere": say_edit("other.py", list(target.lines), list(sample.scene.fixed)),
        "unchanged": say_edit(target.path, list(target.lines), list(target.lines)),
        "broken": say_edit(target.path, [target.lines[sample.scene.start]], ["def ("]),
        "endless": say_edit(target.path, list(piece.lines[:1]), [piece.lines[0], "    while True: pass"]),
        "leaves": say_edit(target.path, list(piece.lines[:1]), [piece.lines[0], "    import os; os._exit(0)"]),
    }
    verdicts = dict(zip(answers, judge([sample] * len(answers), list(answers.values()), sandbox), strict=True))
    assert {name for name, verdict in verdicts.items() if verdict.repaired} == {"whole", "noted"}
    assert not verdicts["whole"].exact and all(verdict.well_formed for verdict in verdicts.values())


def test_new_functions_are_counted_apart() -> None:
    seen = [draw_repair(9, index, "seen", notes=False) for index in range(20)]
    names = [draw_repair(9, index, "names", notes=False) for index in range(20)]
    verdicts = [
        Verdict(well_formed=True, exact=False, visible=False, repaired=s.scene is not None and s.scene.piece.new)
        for s in names
    ]
    assert by_function(seen, [verdicts[0]] * 20) == {}
    figures = by_function(names, verdicts)
    assert figures["trained_functions"]["n"] + figures["new_functions"]["n"] == 20
    assert figures["trained_functions"]["repaired"][0] == 0 and figures["new_functions"]["repaired"][0] == 1


def test_the_visible_call_is_the_told_one_and_no_hidden_test_repeats_it() -> None:
    told = 0
    for index in range(80):
        sample = draw_repair(777, index, "seen", notes=False)
        assert sample.scene is not None
        calls = [(case.expected.before, case.expected.text) for case in cases_of(sample)]
        assert len(calls) == len(set(calls))
        told_by_issue = told_calls(sample.scene, sample.sections["issue"])
        if told_by_issue and can_be_judged(sample):
            told += 1
            assert calls[0][1] in sample.sections["issue"]
        if can_be_judged(sample):
            assert any(case.reveals for case in cases_of(sample)[1:])
    assert told > 30
