"""Patches looked at: the study's scores by its definitions, applying, parsing, overlap with gold; and bad ones."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steergraph.agents.edits.diffs import unified_diff
from steergraph.base.errors import InputError
from steergraph.evals.patches import named_paths, touched_lines
from steergraph.evals.reports.patch_metrics import apply_patch, look
from steergraph.evals.reports.study_patches import study_markdown, study_paths, study_scores, study_variants

BASE = "def add(a, b):\n    return a - b\n\n\ndef mul(a, b):\n    return a * b\n"
FILES = {"calc.py": BASE.encode()}


def patch_of(text, path="calc.py", before=BASE):
    return unified_diff({path: before}, {path: text})


GOLD = patch_of(BASE.replace("a - b", "a + b"))


def test_a_good_patch_applies_parses_and_is_the_gold_one():
    found = look(GOLD, FILES, GOLD)
    assert (found.readable, found.applies, found.parses, found.why) == (True, True, True, "")
    assert (found.added, found.removed) == (1, 1)
    for overlap in (found.files, found.functions, found.lines):
        assert overlap is not None and overlap.recall == overlap.precision == 1.0
    assert touched_lines(GOLD) == {"calc.py": {2}}


def test_another_function_of_the_right_file():
    found = look(patch_of(BASE.replace("a * b", "a ** b")), FILES, GOLD)
    assert found.applies and (found.files.both, found.functions.both, found.lines.both) == (1, 0, 0)
    assert (found.functions.patch, found.functions.gold) == (1, 1)


def test_what_does_not_apply_and_what_does_not_parse():
    nowhere = look(GOLD.replace("-    return a - b", "-    return nowhere"), FILES)
    assert nowhere.readable and nowhere.applies is False and "calc.py" in nowhere.why and "\n" not in nowhere.why
    broken = look(patch_of(BASE.replace("return a - b", "return (")), FILES)
    assert broken.applies and broken.parses is False and "calc.py does not parse" in broken.why
    was_broken = {"calc.py": b"def (\n"}
    assert look(patch_of("def ((\n", before="def (\n"), was_broken).parses is True
    assert look(unified_diff({}, {"a.txt": "x\n"}), {"a.txt": None}).parses is None
    unknown = look(GOLD)
    assert unknown.readable and unknown.applies is None and unknown.parses is None


def test_new_deleted_and_renamed_files():
    new = unified_diff({}, {"new/file.py": "x = 1\n"})
    assert look(new, {"new/file.py": None}).applies
    assert touched_lines(new) == {"new/file.py": {0}}
    after, why = apply_patch(unified_diff({"calc.py": BASE}, {"calc.py": None}), FILES)
    assert (after, why) == ({}, "")
    rename = "diff --git a/calc.py b/sum.py\nsimilarity index 100%\nrename from calc.py\nrename to sum.py\n"
    assert set(named_paths(rename)) >= {"calc.py"} and look(rename, FILES).applies


@pytest.mark.parametrize(
    ("patch", "word"),
    [
        (GOLD.replace("calc.py", "/etc/passwd"), "absolute"),
        (GOLD.replace("calc.py", "../calc.py"), "leads out"),
        (GOLD.replace("calc.py", ".git/config"), "git's own"),
        ("diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+/etc\n", "symbolic link"),
        (GOLD + "+" * 50_000_000, "MB"),
        (GOLD.replace("a + b", "a\0b"), "NUL"),
        (GOLD + "\ud800", "half characters"),
    ],
)
def test_patches_that_are_refused_are_reported_and_not_tried(patch, word, tmp_path):
    found = look(patch, FILES, GOLD)
    assert found.refused and word in found.refused and found.applies is False and found.files is None
    assert apply_patch(patch, FILES) == (None, found.refused) and named_paths(patch) == []


def test_a_binary_patch_is_not_unpacked():
    found = look("diff --git a/x b/x\nnew file mode 100644\nGIT binary patch\nliteral 9999999999\nzcmV\n\n", {})
    assert found.refused and "binary" in found.refused and found.applies is None


def test_a_base_file_that_lies_outside_is_never_written(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "in"))
    (tmp_path / "in").mkdir()
    after, _ = apply_patch(GOLD, {**FILES, "../out.py": b"x", "/abs.py": b"x", ".git/config": b"x"})
    assert after is not None and set(after) == {"calc.py"} and not (tmp_path / "in" / "out.py").exists()


def test_inside_another_repository_git_still_applies_it(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert look(GOLD, FILES).applies and not look(GOLD.replace("return a - b", "return no"), FILES).applies


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("+-@ ab/\n\r\t\x0c1,.\u2028\x1b\u202e")), max_size=60), st.booleans())
def test_no_junk_raises(text, headed):
    patch = f"diff --git a/calc.py b/calc.py\n--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n{text}" if headed else text
    found = look(patch, FILES, GOLD)
    scores = study_scores(patch, lambda path: path == "calc.py")
    assert found.empty == (not patch.strip()) and scores.valid != found.empty
    assert 0 <= scores.quality <= 1 and "\n" not in found.why


def test_the_study_scores_follow_their_definitions():
    assert study_scores(" \n").quality == 0.0 and not study_scores("").valid
    whole = study_scores(GOLD, lambda path: path == "calc.py")
    assert (whole.structural, whole.paths, whole.coherence) == (1.0, 1.0, 1.0)
    assert whole.content == pytest.approx(min(1.0, 1.5 * 2 / 6)) and study_paths(GOLD) == {"calc.py"}
    header = study_scores("diff --git a/x.py b/x.py")
    assert (header.structural, header.paths, header.content, header.coherence) == (0.25, None, 0.0, 0.0)
    assert header.valid and header.quality == round(0.25 * 0.25 + 0.35 * 0.5, 3)
    assert study_scores("+a\n").content == 0.5 and study_scores("+a\n").coherence == 0.7
    assert study_scores("-a\n b\n").coherence == 0.3 and study_scores(" b\n" * 40 + "-a\n").content == 0.1
    assert study_scores("prose", lambda path: True).paths == 0.0


@pytest.mark.slow
@pytest.mark.realdata
def test_the_studys_table_is_recomputed(data):
    found = study_variants(
        data / "steering_research", str(data / "swebench" / "verified_test.parquet"), str(data / "repos")
    )
    by_name = {each.name: each for each in found}
    assert [by_name[f"rag_{name}"].valid_pct for name in ("baseline", "static", "dynamic")] == [95.0, 100.0, 90.0]
    for each in found:
        assert each.total == 20 and each.valid_pct == each.published_valid_pct
        if each.published_quality is not None:  # every part of the score but the paths is from the patches
            assert each.quality == pytest.approx(each.published_quality, abs=0.0006)
            assert each.at_hand == 5 and -0.01 <= each.paths_elsewhere <= 1
    assert [by_name[f"rag_{name}"].paths_at_hand for name in ("baseline", "static", "dynamic")] == [0.2, 0.0, 0.0]
    # What the published figures do not say: of all six variants' patches, git reads hardly one, and takes none.
    assert sum(each.applied for each in found) == 0
    assert [each.readable for each in found] == [1, 0, 0, 0, 0, 0]
    assert "| rag_baseline | 20 | 95 % | 95 % | +0.0 | 0.655 | 0.655 | +0.000 |" in study_markdown(found)


def test_a_damaged_study_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"swebench_evaluation_results.json: not the study's results"):
        study_variants(tmp_path)
    (tmp_path / "swebench_evaluation_results.json").write_text('{"variants": {}}')
    with pytest.raises(InputError, match=r"no swebench_predictions_VARIANT.jsonl in it"):
        study_variants(tmp_path)
    (tmp_path / "swebench_predictions_static.jsonl").write_text('{"instance_id": "a", "model_patch": "x"}\n{"instan')
    with pytest.raises(InputError, match=r"static.jsonl line 2: cut off"):
        study_variants(tmp_path)
