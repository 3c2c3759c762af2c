"""The policy's table: which rule decides, what it answers, and what a user's own file changes."""

import pytest

from steergraph.agents.policy import Policy, Situation
from steergraph.base.errors import InputError
from steergraph.configs import ConfigError
from steergraph.engine.steering.records import Component, Steering

STEERING = Steering(components=(Component(vector="math", layer=6, alpha=2.0),))
POLICY = Policy.load()


@pytest.mark.parametrize(
    ("given", "mode", "rule"),
    [
        ({}, "on", "own_cell"),
        ({"axis": "none"}, "off", "steering_none"),
        ({"steering": None}, "off", "no_vector"),
        ({"context": True}, "off", "retrieved_context"),
        ({"n_examples": 5}, "off", "few_shot"),
        ({"thinking": True}, "off", "thinking"),
        ({"machine_read": True}, "outside_spans", "machine_read"),
        ({"context": True, "machine_read": True}, "off", "retrieved_context"),
        ({"context": True, "gate": False}, "on", "gate_off"),
        ({"n_examples": 5, "thinking": True, "machine_read": True, "gate": False}, "on", "gate_off"),
        ({"axis": "none", "gate": False}, "off", "steering_none"),
        ({"steering": None, "gate": False}, "off", "no_vector"),
    ],
)
def test_the_first_matching_rule_decides(given, mode, rule):
    decision = POLICY.decide(Situation(**{"steering": STEERING, **given}))
    assert (decision.mode, decision.rule) == (mode, rule)
    assert (decision.steering is None) == (mode == "off")
    assert decision.reason


def test_alpha_is_scaled_by_the_few_shot_table(tmp_path):
    own = tmp_path / "policy.yaml"
    own.write_text("alpha_by_examples: {instruct: {1: 0.5, 4: 0.0}, base: {1: null, 2: 0.25}}")
    policy = Policy.load(own)

    def alpha(n, kind):
        steering = policy.decide(Situation(steering=STEERING, n_examples=n, model_kind=kind)).steering
        return steering.components[0].alpha if steering else 0.0

    assert [alpha(n, "instruct") for n in (0, 1, 3, 4, 9)] == [2.0, 1.0, 1.0, 0.0, 0.0]
    assert [alpha(n, "base") for n in (1, 2)] == [2.0, 0.5]


def test_a_rule_of_the_users_own_comes_first(tmp_path):
    own = tmp_path / "policy.yaml"
    own.write_text(
        "rules:\n- {name: never, when: {machine_read: true}, then: 'off', reason: because, evidence: mine}\n"
        "- {name: always, when: {}, then: 'on', reason: because, evidence: mine}\n"
    )
    policy = Policy.load(own)
    assert policy.decide(Situation(steering=STEERING, machine_read=True)).rule == "never"
    assert policy.decide(Situation(steering=STEERING, context=True)).rule == "always"


@pytest.mark.parametrize("text", ["rules: [{name: x}]", "[]", "rules: {", "guard: 3"])
def test_a_broken_policy_is_one_line(tmp_path, text):
    own = tmp_path / "policy.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError) as error:
        Policy.load(own)
    assert "policy.yaml" in str(error.value) and "\n" not in str(error.value)


def test_presets_are_the_published_arms_and_flags_replace_their_axes():
    assert POLICY.axes("rag_static").model_dump() == {"steering": "static", "retrieval": True, "gate": False}
    assert POLICY.axes().model_dump() == {"steering": "dynamic", "retrieval": True, "gate": True}
    assert POLICY.axes("auto", "none", False, False).model_dump() == {
        "steering": "none",
        "retrieval": False,
        "gate": False,
    }
    with pytest.raises(InputError, match="rag_dynamic"):
        POLICY.axes("rag_dynamite")


def test_alpha_must_be_finite():
    with pytest.raises(ValueError, match="finite"):
        Component(vector="math", layer=0, alpha=float("nan"))
    with pytest.raises(ValueError, match="finite"):
        Component(vector="math", layer=0, alpha=float("inf"))
