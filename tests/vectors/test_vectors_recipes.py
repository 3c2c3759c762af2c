"""Recipes: sets from a dataset's rows, balanced in length, without what is excluded, and nothing but named columns."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml

from steergraph.base.errors import InputError
from steergraph.configs import load_config
from steergraph.vectors.extract.contrast import load_contrast
from steergraph.vectors.extract.recipes import Recipe, excluded_ids, load_recipe, packaged_recipes, read_rows, sets_from

GOLD = "gold-patch-canary"


def dataset(path: Path, groups: int = 3, count: int = 20) -> Path:
    rows = [
        {"id": f"{g}-{n}", "topic": f"topic {g}", "question": f"{g} asks {n} " + "word " * (n % 7 + g), "answer": GOLD}
        for g in range(groups)
        for n in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def recipe(**fields: Any) -> Recipe:
    return Recipe(name="own", text="question", group="topic", id="id", **{"per_group": 8, **fields})


def test_one_set_for_each_group(tmp_path: Path) -> None:
    sets = sets_from(recipe(), dataset(tmp_path / "d.jsonl"))
    assert [s.name for s in sets] == ["topic_0", "topic_1", "topic_2"]
    for number, contrast in enumerate(sets):
        assert len(contrast.positives) == len(contrast.neutrals) == 8
        assert all(text.startswith(f"{number} asks") for text in contrast.positives)
        others = [text.split()[0] for text in contrast.neutrals]
        assert str(number) not in others
        assert {others.count(other) for other in set(others)} == {4}
        assert 0.8 < mean(map(len, contrast.positives)) / mean(map(len, contrast.neutrals)) < 1.25
        assert len(contrast.positive_ids) == len(contrast.neutral_ids) == 8
        assert GOLD not in contrast.model_dump_json()
    assert sets == sets_from(recipe(), tmp_path / "d.jsonl")
    assert sets != sets_from(recipe(seed=2), tmp_path / "d.jsonl")


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    path = dataset(tmp_path / "d.jsonl")
    turned = tmp_path / "e.jsonl"
    turned.write_text("\n".join(reversed(path.read_text().splitlines())))
    ids = [[s.positive_ids for s in sets_from(recipe(), p)] for p in (path, turned)]
    assert ids[0] == ids[1]


def test_what_is_excluded_is_nowhere(tmp_path: Path) -> None:
    path = dataset(tmp_path / "d.jsonl")
    gone = tmp_path / "ids.txt"
    gone.write_text("\n".join(f"{g}-{n}" for g in range(3) for n in range(10)))
    ids = excluded_ids(gone, recipe())
    assert len(ids) == 30
    for contrast in sets_from(recipe(), path, ids):
        assert not ids & {*contrast.positive_ids, *contrast.neutral_ids}
    assert excluded_ids(path, recipe()) == {f"{g}-{n}" for g in range(3) for n in range(20)}
    with pytest.raises(InputError, match="too few usable texts"):
        sets_from(recipe(), path, excluded_ids(path, recipe()))
    with pytest.raises(InputError, match="under evaluation"):
        sets_from(recipe(needs_exclude=True), path)
    (tmp_path / "none.txt").write_text("\n\n")
    with pytest.raises(InputError, match="no ids to exclude"):
        excluded_ids(tmp_path / "none.txt", recipe())


def test_long_texts_are_skipped_or_cut(tmp_path: Path) -> None:
    path = dataset(tmp_path / "d.jsonl", count=40)
    for how in ("skip", "cut"):
        for contrast in sets_from(recipe(characters=(1, 30), longer=how), path):
            assert max(map(len, (*contrast.positives, *contrast.neutrals))) <= 30
            assert all(text == text.strip() for text in contrast.positives)


def test_packaged_neutrals(tmp_path: Path) -> None:
    contrast = sets_from(recipe(neutrals="packaged"), dataset(tmp_path / "d.jsonl", groups=1))[0]
    assert contrast.neutrals == tuple(load_config("contrast/neutral"))
    assert contrast.neutral_ids == ()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"text": "words"}, "no column words"),
        ({"per_group": 300}, "too few usable texts for 300 a group"),
        ({"characters": (5, 9)}, "too few usable texts"),
        ({"clusters": True}, "found: none"),
    ],
)
def test_a_recipe_that_does_not_fit_its_data_is_one_line(tmp_path: Path, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        sets_from(recipe().model_copy(update=fields), dataset(tmp_path / "d.jsonl"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.txt", "x"),
        ("d.json", "{"),
        ("d.json", "[]"),
        ("d.json", "[1]"),
        ("d.jsonl", "nan\n{"),
        ("d.parquet", "PAR1"),
    ],
)
def test_files_that_are_no_dataset_are_one_line(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        read_rows(tmp_path / name, ("id",))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no dataset at"):
        read_rows(tmp_path / "none.json", ("id",))


def test_recipes_are_found_and_checked(tmp_path: Path) -> None:
    assert packaged_recipes() == ("mmlu_pro", "swebench_clusters")
    assert load_recipe("mmlu_pro").per_group == 48
    with pytest.raises(InputError, match="no recipe called 'mmlu'"):
        load_recipe("mmlu")
    own = tmp_path / "own.yaml"
    table = {"name": "own", "text": "t", "group": "g", "id": "i"}
    own.write_text(yaml.safe_dump(table))
    assert load_recipe(own).text == "t"
    for change in ({"characters": [9, 2]}, {"colour": 1}, {"per_group": 2}, {"name": "../x"}):
        own.write_text(yaml.safe_dump({**table, **change}))
        with pytest.raises(InputError, match=r"own.yaml"):
            load_recipe(str(own))


# --- the packaged recipes on their own data ---------------------------------------------------------------------------


@pytest.mark.realdata
def test_mmlu_pro_gives_its_fourteen_categories(data: Path) -> None:
    sets = sets_from(load_recipe("mmlu_pro"), data / "mmlu_pro" / "test-00000-of-00001.parquet")
    assert len(sets) == 14
    assert {"math", "law", "computer_science"} <= {s.name for s in sets}
    for contrast in sets:
        assert len(contrast.positives) == len(contrast.neutrals) == 48
        assert 0.9 < mean(map(len, contrast.positives)) / mean(map(len, contrast.neutrals)) < 1.1


@pytest.mark.realdata
def test_clusters_come_from_issues_that_are_not_evaluated(data: Path) -> None:
    packaged = load_recipe("swebench_clusters")
    verified = excluded_ids(data / "swebench" / "verified_test.parquet", packaged)
    assert len(verified) == 500
    sets = sets_from(packaged, data / "swebench" / "lite_test.parquet", verified)
    assert [s.name for s in sets] == ["dev_tooling", "django_web", "scientific_computing"]
    for contrast in sets:
        assert not verified & {*contrast.positive_ids, *contrast.neutral_ids}


@pytest.mark.realdata
def test_no_calendar_set_has_seen_the_evaluation(data: Path) -> None:
    cases = json.loads((data / "steering_research" / "calendar_eval_dataset.json").read_text())
    evaluated = [case["input"].lower().split() for case in cases]
    runs = {tuple(words[k : k + 5]) for words in evaluated for k in range(len(words) - 4)}
    for name in ("calendar", "calendar_fr"):
        for text in load_contrast(name).positives:
            words = text.lower().split()
            assert not runs & {tuple(words[k : k + 5]) for k in range(len(words) - 4)}, text
