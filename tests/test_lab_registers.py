"""The register classifier and the lab's tasks: what they accept and what they must not."""

import pytest

from steergraph.agents.sandbox import Sandbox
from steergraph.evals.lab.registers import OTHER, REGISTERS, corpus_registers, corpus_texts
from steergraph.evals.lab.tasks import chance, choices_of, draw_items, grade_answers

N = 12


def test_registers_are_told_apart_on_texts_that_were_not_learnt() -> None:
    registers = corpus_registers(1, 40)
    pairs = corpus_texts(2, 20)
    told = registers.tell([text for text, _ in pairs])
    assert sum(one == label for one, (_, label) in zip(told, pairs, strict=True)) >= 0.95 * len(pairs)
    assert registers.tell(["", "  \n"]) == [OTHER, OTHER]
    assert registers.tell([]) == []
    again = corpus_registers(1, 40)
    assert again.vocabulary == registers.vocabulary
    assert (again.weights == registers.weights).all()


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox.detect(unsafe=True)


@pytest.mark.parametrize("domain", REGISTERS)
def test_right_answers_are_right_and_those_to_other_questions_are_not(domain: str, sandbox: Sandbox) -> None:
    items = draw_items(domain, "own", "select", 3, N)
    samples = [item.truth for item in items]
    answers = [sample.answer for sample in samples]
    right = grade_answers(samples, answers, sandbox)
    assert sum(right) >= (0.75 if domain == "test_reasoning" else 1) * N
    wrong = grade_answers(samples, [*answers[1:], answers[0]], sandbox)
    expected = sum(chance(sample) for sample in samples)
    assert sum(wrong) <= (expected + 4 if expected else 1)
    assert not any(grade_answers(samples, [""] * N, sandbox))


def test_splits_and_prompts_ask_what_they_should() -> None:
    own = draw_items("law", "own", "select", 3, N)
    opened = draw_items("law", "open", "select", 3, N)
    others = draw_items("law", "own", "report", 3, N)
    assert [item.messages[1:] for item in own] == [item.messages for item in opened]
    assert all(item.messages[0].role == "system" for item in own)
    assert not {item.messages for item in own} & {item.messages for item in others}
    assert all(chance(item.truth) == 1 / len(choices_of(item.truth)) for item in own)
    assert draw_items("law", "own", "select", 3, N) == own
