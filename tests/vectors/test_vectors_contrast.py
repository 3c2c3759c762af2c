"""Contrast sets: the packaged ones are balanced, a user's own is read, and every mistake in it is told in one line."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.configs import ConfigError, load_config
from steergraph.configs.prompts import fill_system
from steergraph.vectors.extract.contrast import NEUTRAL_SYSTEM, ContrastSet, has_contrast, load_contrast, packaged_sets

DOMAINS = ("code_reading", "bug_analysis", "patch_writing", "test_reasoning", "math", "law", "history")
TEXTS = [f"positive number {index}" for index in range(8)]


def own(path: Path, **fields: Any) -> Path:
    path.write_text(yaml.safe_dump({"name": "own", "positives": TEXTS, **fields}), encoding="utf-8")
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_contrast(path)
    assert isinstance(caught.value, InputError)  # the command turns it into exit code 2
    assert "\n" not in str(caught.value)
    for word in (path.name, *words):
        assert word in str(caught.value)


texts = st.text(min_size=1, max_size=12).filter(str.strip)
HARMLESS = [HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow]


@settings(deadline=None, max_examples=25, suppress_health_check=HARMLESS)
@given(st.lists(texts, min_size=16, max_size=20, unique=True), st.booleans())
def test_pairs_in_json_are_a_set(tmp_path: Path, drawn: list[str], questions: bool) -> None:
    """As repeng's users keep them, or with CAA's questions; text k of one side belongs to text k of the other."""
    pairs = list(zip(drawn[::2], drawn[1::2], strict=False))
    path = tmp_path / "be kind.json"
    if questions:
        answers = ("answer_matching_behavior", "answer_not_matching_behavior")
        rows = [
            {"question": f"{high} {low}\n", **dict(zip(answers, ("(A)", "(B)"), strict=True))} for high, low in pairs
        ]
        pairs = [(f"{high} {low}".rstrip() + "\n(A)", f"{high} {low}".rstrip() + "\n(B)") for high, low in pairs]
    else:
        rows = [{"positive": high, "negative": low} for high, low in pairs]
    path.write_text(json.dumps(rows), encoding="utf-8")
    if len({high for high, _ in pairs}) < len(pairs):  # texts that differ in trailing blanks alone
        return
    contrast = load_contrast(str(path))
    assert (contrast.name, contrast.source) == ("be_kind", "be kind.json")
    assert list(zip(contrast.positives, contrast.neutrals, strict=True)) == pairs
    assert contrast.held_out[0] == contrast.held_out[1]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[{", "not valid JSON"),
        ("3", "a contrast set is a mapping"),
        ('[{"positive": "a"}]', "[0] has neither positive and negative"),
        ('[{"positive": "a", "negative": 3}]', "[0] has neither"),
        ('["text"]', "[0] has neither"),
        ('[{"answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}]', "nor question"),
        ('[{"positive": "a", "negative": "b"}]', "1 texts; 8 to"),
    ],
)
def test_pairs_that_are_none(tmp_path: Path, content: str, word: str) -> None:
    (tmp_path / "p.json").write_text(content)
    refused(tmp_path / "p.json", word)


def test_every_domain_of_the_roster_has_a_set() -> None:
    assert set(DOMAINS) <= set(packaged_sets())
    assert "neutral" not in packaged_sets()
    for specialist in load_config("specialists")["specialists"]:
        assert has_contrast(specialist["domain"])
    assert not has_contrast("astrology")


@pytest.mark.parametrize("name", packaged_sets())
def test_packaged_sets_differ_in_topic_and_not_in_length(name: str) -> None:
    contrast = load_contrast(name)
    assert contrast.name == name
    assert name.startswith(contrast.domain)
    assert contrast.description
    assert len(contrast.positives) >= 24
    assert len(contrast.neutrals) >= 24
    for measure in (len, lambda text: len(text.split())):
        positive, neutral = mean(map(measure, contrast.positives)), mean(map(measure, contrast.neutrals))
        assert 0.85 < positive / neutral < 1.15
    assert {text[-1] for text in contrast.positives} <= set(".?!")
    assert contrast.system is None


def test_packaged_sets_share_the_neutral_side_of_their_language_and_nothing_else() -> None:
    sets = [load_contrast(name) for name in packaged_sets()]
    assert len({(contrast.language, contrast.neutrals) for contrast in sets}) == len({c.language for c in sets}) == 2
    assert len({text for contrast in sets for text in contrast.positives}) == sum(len(c.positives) for c in sets)
    assert len({contrast.hash for contrast in sets}) == len(sets)


def test_every_fourth_text_is_held_out() -> None:
    positive, neutral = load_contrast("math").held_out
    assert positive[:3] == neutral[:3] == (3, 7, 11)
    assert len(positive) == len(load_contrast("math").positives) // 4


def test_a_set_of_ones_own_takes_the_packaged_neutral_texts(tmp_path: Path) -> None:
    contrast = load_contrast(own(tmp_path / "own.yaml"))
    assert contrast.neutrals == load_contrast("math").neutrals
    assert (contrast.name, contrast.domain) == ("own", "own")
    assert load_contrast(str(tmp_path / "own.yaml")) == contrast


def test_neutral_texts_may_lie_in_the_file_or_beside_it(tmp_path: Path) -> None:
    texts = [f"neutral number {index}" for index in range(8)]
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(texts))
    beside = load_contrast(own(tmp_path / "own.yaml", neutrals="plain.yaml"))
    inside = load_contrast(own(tmp_path / "own.yaml", neutrals=texts))
    assert beside == inside
    assert inside.neutrals == tuple(texts)


def test_a_specialists_prompt_may_stand_above_the_positives(tmp_path: Path) -> None:
    contrast = load_contrast(own(tmp_path / "own.yaml", specialist="patch_writing"))
    entry = next(s for s in load_config("specialists")["specialists"] if s["name"] == "patch_writing")
    assert contrast.system == fill_system(entry["system"])
    assert contrast.neutral_system == NEUTRAL_SYSTEM
    plain = load_contrast(own(tmp_path / "own.yaml"))
    said = load_contrast(own(tmp_path / "own.yaml", system="Be brief.", neutral_system="Be."))
    assert (said.system, said.neutral_system) == ("Be brief.", "Be.")
    assert len({contrast.hash, plain.hash, said.hash}) == 3


def test_the_hash_is_of_what_the_vector_depends_on(tmp_path: Path) -> None:
    one = load_contrast(own(tmp_path / "a.yaml"))
    assert one.hash == load_contrast(own(tmp_path / "b.yaml", name="other", description="x", domain="y")).hash
    for change in ({"positives": TEXTS[::-1]}, {"held_out_every": 2}, {"neutrals": [f"n {i}" for i in range(8)]}):
        assert load_contrast(own(tmp_path / "c.yaml", **change)).hash != one.hash


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"positives": TEXTS[:7]}, "7 texts; 8 to"),
        ({"positives": "text"}, "positives is a list"),
        ({"positives": [*TEXTS, {"Fix this": "now"}]}, "positives[8] is not a text; put it in quotes"),
        ({"positives": [*TEXTS, 7]}, "positives[8] is not a text"),
        ({"positives": [*TEXTS, " "]}, "positives[8]: the text is empty"),
        ({"positives": [*TEXTS, TEXTS[0]]}, "the same text twice"),
        ({"positives": [*TEXTS, "x" * 30_000]}, "more than 20000 characters"),
        ({"neutrals": TEXTS}, "among positives and neutrals"),
        ({"neutrals": "none.yaml"}, "cannot read it"),
        ({"neutrals": 7}, "neutrals is a list"),
        ({"held_out_every": 1}, "held_out_every"),
        ({"held_out_every": 9}, "none of 8 is held out"),
        ({"name": "../up"}, "name"),
        ({"name": None}, "name"),
        ({"colour": "red"}, "colour"),
        ({"kind": "poem"}, "kind"),
        ({"specialist": "nobody"}, "no specialist called 'nobody'"),
        ({"specialist": "math", "system": "x"}, "not both"),
        ({"neutral_system": "x"}, "given together"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, fields: dict[str, Any], word: str) -> None:
    path = own(tmp_path / "own.yaml", **fields)
    if fields.get("neutrals") == "none.yaml":
        with pytest.raises(InputError, match=word):
            load_contrast(path)
    else:
        refused(path, word)


def test_files_that_are_no_contrast_set(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    for text in ("[1, 2]", "", "name: [", "1: 2", "\x00"):
        path.write_text(text)
        refused(path)
    path.write_bytes(b"\xff\xfe\x00")
    refused(path, "cannot read it")
    refused(tmp_path / "none.yaml", "cannot read it")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no contrast set called 'maths'.*math.*own is named by its path"):
        load_contrast("maths")
    with pytest.raises(InputError):
        load_contrast("neutral")
    with pytest.raises(InputError):
        load_contrast("../specialists")


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda s: (
            st.lists(s, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "positives", "neutrals", "system", "specialist", "x"]), s, max_size=6
            )
        ),
    )
)
def test_any_yaml_is_a_set_or_one_line(tmp_path: Path, table: Any) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(table, allow_unicode=True), encoding="utf-8")
    try:
        assert isinstance(load_contrast(path), ContrastSet)
    except InputError as error:
        assert "\n" not in str(error)
