"""The corpus: the graph's own prompts, answers that are right, and held-out parts that stay out."""

import ast
import json
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from steergraph.configs.prompts import build_messages
from training.corpus.behaviour import replay, same
from training.corpus.calendar import FIELDS, as_json, draw_case
from training.corpus.kept_out import example_runs, runs
from training.corpus.reasoning import domains, multiple_choice, word_problem, world
from training.corpus.samples import Sample, Split, draw_repair, draw_sample
from training.corpus.scenes import draw_scene
from training.corpus.shapes import HELD_OUT_FAMILIES, Mark, families, shapes
from training.corpus.speech import edit_hunk
from training.corpus.surroundings import build_piece
from training.corpus.vocabulary import HELD_OUT, TRAIN, invented_word

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [draw_sample(5, index) for index in range(1500)]


def test_the_same_seed_gives_the_same_sample() -> None:
    assert [draw_sample(3, i) for i in range(20)] == [draw_sample(3, i) for i in range(20)]
    assert draw_sample(3, 0) != draw_sample(4, 0)
    assert draw_sample(3, 0) != draw_sample(3, 0, "seen")


def test_every_kind_and_family_occurs(samples: list[Sample]) -> None:
    specialists = {"patch_writing", "bug_analysis", "test_reasoning", "code_reading"}
    asked = {"math", "law", "history", "geography", "biology", "calendar_json", "calendar_prose", "plain", "copy"}
    assert {sample.kind for sample in samples} == specialists | asked
    assert len(families()) >= 30
    trained = {sample.family for sample in samples if sample.kind in specialists}
    assert trained == set(families()) - HELD_OUT_FAMILIES
    assert {draw_repair(1, index, "families", False).family for index in range(80)} == HELD_OUT_FAMILIES


def test_prompts_are_the_specialists_prompts(samples: list[Sample]) -> None:
    for sample in samples:
        if sample.kind in ("copy", "plain", "calendar_json", "calendar_prose"):
            continue
        known = [sample.kind] if sample.kind not in ("geography", "biology") else ["law", "history"]
        assert sample.messages[0] in [build_messages(specialist, {})[0] for specialist in known]
        assert re.match(r"Issue:\n|\w", sample.messages[1]["content"])


def test_every_mark_of_every_shape_is_a_defect_in_code_that_parses() -> None:
    for shape in shapes():
        for place, part in enumerate(shape.parts):
            if not isinstance(part, Mark):
                continue
            piece = build_piece(random.Random(place), TRAIN, shape, ("dot", "key")[place % 2], True, place)
            for lines in (piece.lines, piece.fixed):
                ast.parse("\n".join(lines))
            assert piece.lines != piece.fixed, (shape.index, piece.defect)


@pytest.mark.parametrize("split", ["seen", "names", "phrasings", "families"])
def test_a_repair_shows_in_two_calls_and_its_cases_hold(split: Split) -> None:
    """One call can be told and another kept back; played from their text, the right code passes all, the wrong none."""
    for index in range(40):
        scene = draw_repair(9, index, split, notes=bool(index % 2)).scene
        assert scene is not None
        piece = scene.piece
        target = scene.passages[scene.target].lines
        assert target[scene.start : scene.start + len(piece.lines)] == piece.lines
        if not piece.cases:
            continue
        assert sum(case.reveals for case in piece.cases) >= 2
        passed: dict[str, list[bool]] = {"right": [], "wrong": []}
        for side, lines in (("right", piece.fixed), ("wrong", piece.lines)):
            for case in piece.cases:
                played = replay(lines, piece.record, case.expected)
                passed[side].append(played is not None and same(case.expected, played))
        assert all(passed["right"]) and not all(passed["wrong"])


def test_what_an_issue_shows_is_what_the_code_does() -> None:
    shown = 0
    for index in range(200):
        sample = draw_repair(4, index, "seen", notes=False)
        assert sample.scene is not None
        told = [case for case in sample.scene.piece.cases if case.reveals][:1]
        issue = sample.messages[1]["content"].split("\n\nCode:\n")[0]
        if told and told[0].expected.text in issue:
            shown += 1
            assert told[0].actual.result in issue or told[0].actual.changed in issue
    assert shown > 90


def test_an_edit_takes_neighbours_until_its_place_is_unique() -> None:
    lines, fixed = ["a", "b", "c", "b", "d"], ["a", "b", "c", "x", "d"]
    assert edit_hunk(lines, fixed, (3, 4, 3, 4)) == (["c", "b"], ["c", "x"])
    assert edit_hunk(["b", "c", "b"], ["x", "c", "b"], (0, 1, 0, 1)) == (["b", "c"], ["x", "c"])


def test_an_insertion_hangs_on_the_line_after_it_or_before_it() -> None:
    assert edit_hunk(["a", "b"], ["a", "n", "b"], (1, 1, 1, 2)) == (["b"], ["n", "b"])
    assert edit_hunk(["a", "b"], ["a", "b", "n"], (2, 2, 2, 3)) == (["b"], ["b", "n"])


def test_notes_and_feedback_reach_the_patch_prompt(samples: list[Sample]) -> None:
    texts = [s.messages[1]["content"] for s in samples if s.kind == "patch_writing"]
    with_notes = sum("\n\nNotes:\n" in text for text in texts) / len(texts)
    with_feedback = sum("\n\nFeedback on your last edit:\n" in text for text in texts) / len(texts)
    without_code = sum("\nCode:\n" not in text for text in texts) / len(texts)
    assert 0.4 < with_notes < 0.6
    assert 0.03 < with_feedback < 0.15
    assert 0.01 < without_code < 0.1


def test_held_out_words_and_shapes_stay_out_of_training() -> None:
    lists = ("nouns", "attributes", "flags", "texts", "modifiers", "verbs")
    trained, kept = ({word for name in lists for word in getattr(words, name)} for words in (TRAIN, HELD_OUT))
    assert len(kept) > 80 and not trained & kept
    rng = random.Random(0)
    assert all(invented_word(rng)[0] not in "kz" for _ in range(300))
    assert all(invented_word(rng, held_out=True)[0] in "kz" for _ in range(300))
    held = {shape.doc.split("{")[0] for shape in shapes() if shape.held_out}
    known = {shape.doc.split("{")[0] for shape in shapes() if not shape.held_out}
    drawn = [s.scene.piece.doc for s in (draw_sample(6, i) for i in range(600)) if s.scene]
    whole = {start for start in held - known if len(start) > 24}
    assert len(whole) > 10 and not [doc for doc in drawn if doc.startswith(tuple(whole))]


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_word_problems_are_worked_out_right(steps: int) -> None:
    for seed in range(60):
        question, answer = word_problem(random.Random(seed), TRAIN, steps)
        *lines, marked = answer.split("\n")
        values = []
        for line in lines:
            left, right = line.split(" = ")
            first, sign, second = left.split()
            a, b = int(first), int(second)
            assert int(right) == {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
            assert second in question.replace(".", " ").split()
            values.append(int(right))
        assert marked == f"#### {values[-1]}" and values[-1] >= 0 and len(lines) >= min(steps, 1)


def test_the_right_option_is_the_worlds() -> None:
    for domain in domains():
        question, choices, letter, answer = multiple_choice(random.Random(3), domain, 5)
        right = choices["ABCDE".index(letter)]
        place = next(name for name in world() if name in question)
        assert right in world()[place].values() and right in answer and answer.endswith(f"#### {letter}")
        assert len(set(choices)) == 5


def test_a_calendar_entry_says_what_was_asked() -> None:
    for seed in range(200):
        case = draw_case(random.Random(seed))
        entry = json.loads(as_json(case.entry))
        assert tuple(entry) == FIELDS
        asked = case.request.lower()
        assert entry["start_time"] in asked and entry["date"].lower() in asked and entry["title"].lower() in asked
        assert all(name.lower() in asked for name in entry["attendees"])
        assert (entry["location"] is None) or entry["location"].lower() in asked


def test_the_example_repository_is_not_in_the_corpus() -> None:
    if not any(EXAMPLES.glob("pantry/**/*.py")):
        pytest.skip("examples/ has no Python yet")
    example = example_runs(EXAMPLES)
    corpus: set[tuple[str, ...]] = set()
    for index in range(1200):
        scene = draw_sample(1, index).scene
        for side in (scene.piece.lines, scene.piece.fixed) if scene else ():
            corpus |= runs("\n".join(side) + "\n")
    assert not example & corpus, sorted(" ".join(run) for run in example & corpus)[:20]


def test_the_stages_of_the_curriculum_grow_longer() -> None:
    def length(stage: float) -> float:
        return sum(len(draw_sample(2, i, stage=stage).messages[-1]["content"]) for i in range(300))

    lengths = [length(stage) for stage in (0.0, 0.5, 1.0)]
    assert all(shorter < longer for shorter, longer in pairwise(lengths))


def test_a_file_can_be_shown_function_by_function_as_retrieval_packs_it() -> None:
    several = 0
    for index in range(60):
        scene = draw_scene(random.Random(index), size=2, split=True)
        target = scene.passages[scene.target]
        assert target.lines == scene.piece.lines
        assert scene.fixed == scene.piece.fixed
        same = [passage for passage in scene.passages if passage.path == target.path]
        ranges = sorted((one.first_line, one.first_line + len(one.lines)) for one in same)
        assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
        several += len(same) > 1
    assert several > 20
    whole = draw_scene(random.Random(1), size=2, split=False)
    assert len({passage.path for passage in whole.passages}) == len(whole.passages)
