"""A user's file laid over a packaged one: what it names changes, and nothing else goes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.agents.policy import Policy, Situation
from steergraph.agents.specialists import Roster
from steergraph.configs import ConfigError, load_config, parse_yaml
from steergraph.configs.overlay import layered, overlaid, sources
from steergraph.engine.steering.records import Component, Steering

STEERING = Steering(components=(Component(vector="law", layer=1, alpha=2.0),))
MINE = """
rules:
  - {name: mine, when: {machine_read: true}, then: "off", gated: false, reason: mine, evidence: mine}
presets:
  half: {steering: dynamic, retrieval: false, gate: true}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text)
    return path


def test_one_rule_of_ones_own_leaves_the_others(tmp_path: Path) -> None:
    policy = Policy.load(written(tmp_path, MINE))
    assert [rule.name for rule in policy.rules] == ["mine", *(rule.name for rule in Policy.load().rules)]
    assert policy.decide(Situation(steering=STEERING)).rule == "own_cell"
    assert policy.decide(Situation(steering=STEERING, context=True)).rule == "retrieved_context"
    assert policy.decide(Situation(steering=STEERING, machine_read=True)).rule == "mine"
    assert policy.axes("half").gate and policy.axes("baseline").steering == "none"


def test_a_field_of_a_packaged_rule_changes_in_its_place(tmp_path: Path) -> None:
    policy = Policy.load(
        written(tmp_path, 'rules:\n  - {name: retrieved_context, then: "on"}\nguard: {min_characters: 5}\n')
    )
    assert [rule.name for rule in policy.rules] == [rule.name for rule in Policy.load().rules]
    assert policy.decide(Situation(steering=STEERING, context=True)).mode == "on"
    assert (policy.guard.min_characters, policy.guard.max_repetition) == (5, Policy.load().guard.max_repetition)


def test_null_takes_away_and_replace_takes_whole(tmp_path: Path) -> None:
    assert "static" not in Policy.load(written(tmp_path, "presets: {static: null}\n")).presets
    only = Policy.load(written(tmp_path, f"replace: [rules]\n{MINE}"))
    assert [rule.name for rule in only.rules] == ["mine"] and "baseline" in only.presets


@pytest.mark.parametrize(
    "text", ["- 1\n", "replace: rules\n", "replace: [nothing]\n", "rules: [{then: on}]\n", "rules: 3\n"]
)
def test_what_cannot_be_laid_over_is_one_line(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    for load in (Policy.load, Roster.load):
        if load is Roster.load:
            path.write_text(text.replace("rules", "specialists"))
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_roster_is_laid_over_in_the_same_way(tmp_path: Path) -> None:
    roster = Roster.load(written(tmp_path, "specialists:\n  - {name: law, max_new_tokens: 9}\n"))
    assert roster["law"].max_new_tokens == 9 and roster["law"].domain == "law"
    assert roster.names == Roster.load().names


def test_every_value_says_where_it_is_from() -> None:
    packaged = load_config("policy")
    merged = overlaid(
        packaged, {"presets": {"mine": {"steering": "none"}}, "repair": {"max": 5}}, "own", first=("rules",)
    )
    told = {key: (value, where) for key, value, where in sources(packaged, merged, "own.yaml")}
    assert told["repair.max"] == (5, "own.yaml") and told["presets.mine.steering"] == ("none", "own.yaml")
    assert told["repair.top_p"][1] == "packaged" and told["rules.thinking.then"] == ("off", "packaged")


KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(st.integers(0, 3), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
TABLES = st.dictionaries(KEYS, TREES, max_size=3)


@given(TABLES, TABLES)
def test_nothing_that_the_user_did_not_name_changes(packaged: dict, own: dict) -> None:
    merged = overlaid(packaged, own, "own")

    def check(before: object, change: object, after: object) -> None:
        if isinstance(before, dict) and isinstance(change, dict):
            assert isinstance(after, dict) and after.keys() == before.keys() | change.keys()
            for key in after:
                check(before.get(key), change[key], after[key]) if key in change else check(
                    None, before[key], after[key]
                )
        else:
            assert after == change

    check(packaged, own, merged)


def test_values_name_the_last_file_that_changed_them():
    packaged = {"guard": {"a": 1, "b": 2, "c": 3}, "rules": [{"name": "x", "then": "on"}], "gone": 1}
    page = {"guard": {"b": 20, "c": 30}, "gone": None}
    own = {"guard": {"c": 300}, "rules": [{"name": "mine", "then": "off"}, {"name": "x", "then": "on"}]}
    found = layered(packaged, ("page", page), ("own.yaml", own), first=("rules",))
    assert found == [
        ("guard.a", 1, "packaged"),
        ("guard.b", 20, "page"),
        ("guard.c", 300, "own.yaml"),
        ("rules.mine.then", "off", "own.yaml"),
        ("rules.x.then", "on", "packaged"),
    ]
    assert layered(packaged) == layered(packaged, ("own.yaml", {}))
    with pytest.raises(ConfigError, match="not a mapping"):
        layered(packaged, ("own.yaml", []))


@pytest.mark.parametrize(
    "own",
    [
        {"rules": [{"name": "mine", "a": 1}, {"name": "mine", "a": 2}]},
        {"rules": [{"name": ["a"]}]},
        {"replace": [["a"]]},
        {"replace": {"rules": 1}},
    ],
)
def test_names_that_stand_twice_or_are_none_are_refused(own: object) -> None:
    with pytest.raises(ConfigError, match=r"^mine\.yaml: "):
        overlaid({"rules": [{"name": "theirs", "a": 0}]}, own, "mine.yaml")


def test_a_key_that_stands_twice_in_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml, line 3: .*'presets' stands twice"):
        parse_yaml("presets: {a: 1}\nother: 2\npresets: {b: 1}\n", "a.yaml")
    assert parse_yaml("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n", "a.yaml") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}
