"""What training draws beside the written functions: composed ones, random defects, other names; what it never does."""

import ast
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.corpus.arguments import Values
from training.corpus.behaviour import Call, Script, compare, run
from training.corpus.compose import compose
from training.corpus.kept_out import digest, example_runs, kept_out, main
from training.corpus.mutate import changes
from training.corpus.practice import practice_neighbour, practice_piece
from training.corpus.rename import rename_locals, renamed
from training.corpus.shapes import HELD_OUT_FAMILIES, Mark, shapes
from training.corpus.surroundings import build_piece, draw_slots, plain_code
from training.corpus.vocabulary import TRAIN

ROOT = Path(__file__).resolve().parents[2]
SEEDS = st.integers(0, 10**9)


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_a_composed_function_runs_and_every_mark_changes_it(seed: int) -> None:
    rng = random.Random(seed)
    shape = compose(rng)
    assert shape.script is not None and "<" not in shape.doc
    for place, part in enumerate(shape.parts):
        if isinstance(part, Mark):
            piece = build_piece(random.Random(seed), TRAIN, shape, ("dot", "key")[seed % 2], False, place)
            ast.parse("\n".join(piece.fixed))
            assert part.family not in HELD_OUT_FAMILIES
            nonsense = ("NameError", "TypeError", "UnboundLocalError", "AttributeError")
            assert not any(case.expected.raised in nonsense for case in piece.cases), piece


def test_composed_functions_seldom_repeat() -> None:
    rng = random.Random(3)
    drawn = [compose(rng) for _ in range(600)]
    assert len({shape.right for shape in drawn}) > 400


def test_practice_shows_many_families_and_each_defect_in_one_place() -> None:
    rng = random.Random(7)
    pieces = [practice_piece(rng, TRAIN, "dot", False) for _ in range(1500)]
    families = {piece.defect.family for piece in pieces if piece.defect}
    assert len(families) > 20 and not families & HELD_OUT_FAMILIES
    for piece in pieces:
        assert piece.defect and piece.lines != piece.fixed
        assert sum(case.reveals for case in piece.cases) >= 2
        for side in (piece.lines, piece.fixed):
            ast.parse("\n".join(side))
        before, after = list(piece.lines), list(piece.fixed)
        while before and after and before[0] == after[0]:
            del before[0], after[0]
        while before and after and before[-1] == after[-1]:
            del before[-1], after[-1]
        assert max(len(before), len(after)) <= 5, piece  # one place, and nothing else


CODE = '''def f(items, limit, name="x"):
    """Text."""
    best = None
    for at, item in enumerate(items[1:limit]):
        if not item.good and item.a >= limit:
            best = (at, item.a - 1)
            limit += 2
    if best is None:
        return [name.strip(), "b"]
    return sorted(max(best[0], limit) for _ in items)
'''


def test_every_change_parses_and_none_is_of_a_held_out_family() -> None:
    made = changes(CODE)
    for change in made:
        wrong = CODE[: change.start] + change.wrong + CODE[change.end :]
        assert wrong != CODE
        ast.parse(wrong)
        assert "[1:limit]" in wrong, change  # slices stay
    said = {(change.family, CODE[change.start : change.end].strip(), change.wrong.strip()) for change in made}
    assert {
        ("comparison", ">=", ">"),
        ("logic", "and", "or"),
        ("logic", "not", ""),
        ("sign", "-", "+"),
        ("variable", "best", "limit"),
        ("accumulator", "+=", "="),
        ("strip", ".strip()", ""),
        ("comparison", "max", "min"),
        ("swapped", "best[0], limit", "limit, best[0]"),
    } <= said
    assert not {family for family, _, _ in said} & HELD_OUT_FAMILIES
    assert any(family == "guard" and right.startswith("if best is None") for family, right, _ in said)
    assert any(family == "return" and wrong.startswith("sorted(") for family, _, wrong in said)


@pytest.mark.parametrize("code", ["x = 1\n", "def f(ä):\n    return ä\n"])
def test_where_there_is_nothing_to_change(code: str) -> None:
    assert changes(code) == []
    with pytest.raises(SyntaxError):
        changes("def f(:\n")


def test_other_names_do_the_same() -> None:
    """Every written function, with its locals renamed, gives the same results."""
    changed = 0
    for shape in shapes():
        if shape.script is None or shape.script.calls:
            continue
        other = renamed(random.Random(shape.index), shape, TRAIN)
        one, two = (build_piece(random.Random(5), TRAIN, s, "key", False) for s in (shape, other))
        changed += one.lines != two.lines
        slots = {**draw_slots(random.Random(5), TRAIN), "fn": one.name}
        values = Values(random.Random(9), {**slots, "C": one.record}, "key", shape.attributes)
        cases = compare(one.lines, two.lines, one.name, shape.script, values)
        assert not any(case.reveals for case in cases), two.lines
    assert changed > 60


def test_names_of_others_are_left_alone() -> None:
    class Always(random.Random):
        def random(self) -> float:
            return 0.5

    text = "def {fn}(values, limit={n}):\n    total = v.total + f(limit=3)\n    return total, limit"
    new = rename_locals(Always(1), text, ("pear",))
    assert "v.total" in new and "f(limit=3)" in new
    assert "return total" not in new and ", limit" not in new
    inside = 'def {fn}(total):\n    return f"{{total}}" + total'
    assert rename_locals(Always(1), inside, ("pear",)) == inside  # or it would be another value inside the text


def test_what_is_kept_out_is_what_the_example_repository_holds() -> None:
    if not (ROOT / "examples" / "pantry").is_dir():
        pytest.skip("examples/ has no Python yet")
    listed = (ROOT / "training" / "corpus" / "shapes" / "kept_out.txt").read_text(encoding="utf-8").split()
    assert listed == sorted(map(digest, example_runs(ROOT / "examples")))
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples" / "pantry").rglob("*.py"))]
    assert sum(map(kept_out, texts)) > len(texts) / 2


def test_without_the_example_repository_nothing_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "no Python of the example repository" in said.err


def test_held_out_functions_are_kept_out_and_practice_keeps_to_it() -> None:
    for shape in shapes():
        if shape.held_out:
            assert kept_out(plain_code(shape.right, "dot")) and kept_out(plain_code(shape.right, "key"))
    assert not kept_out("def f(a):\n    return a\n") and kept_out("def f(:\n")
    rng = random.Random(11)
    for _ in range(300):
        assert not kept_out("\n".join(practice_neighbour(rng, TRAIN, "key", True).lines) + "\n")


def test_what_has_no_end_ends_the_call_and_a_list_put_into_itself_is_shown() -> None:
    loop = ["def f(a):", "    while True:", "        a = a + a", "    return a"]
    own = ["def f(a):", "    a.append(a)", "    return a"]
    endless = ["def f(a):", "    while True:", "        yield a"]
    deep = ["def f(a):", "    return f(a)"]
    nested = ["def f(a):", "    for _ in range(1000):", "        a[0] = (a[0],)", "    return len(a)"]

    def call(lines: list[str]) -> Call:
        done = run(lines, "f", Script(("ints+",)), [("f", [[1, 2]])], "R")
        assert done is not None
        return done[0]

    def deeper(frames: int) -> Call:
        return deeper(frames - 1) if frames else call(deep)

    assert call(loop).raised == call(endless).raised == "TimeoutError"
    assert (call(own).raised, call(own).result, call(own).changed) == ("", "[1, 2, ...]", "[1, 2, ...]")
    assert call(deep).raised == "RecursionError"
    assert (call(nested).result, call(nested).changed) == ("2", "[" + "(" * 15 + "..." + ",)" * 15 + ", 2]")
    assert len({deeper(frames) for frames in range(8)}) == 1  # whoever calls, the corpus is the same
