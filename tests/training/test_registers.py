"""The register classifier and the lab's tasks: what they accept and what they must not."""

import re

import pytest

from steergraph.sandbox.run import Sandbox
from training.corpus.samples import Sample
from training.tasks.questions import chance, choices_of, draw_questions, grade_answers
from training.tasks.registers import OTHER, REGISTERS, corpus_registers, corpus_texts

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
    items = draw_questions(domain, "select", 3, N)
    samples = [item.truth for item in items]
    answers = [sample.answer for sample in samples]
    right = grade_answers(samples, answers, sandbox)
    assert sum(right) >= (0.75 if domain == "test_reasoning" else 1) * len(items)
    wrong = grade_answers(samples, [*answers[1:], answers[0]], sandbox)
    expected = sum(chance(sample) for sample in samples)
    assert sum(wrong) <= (expected + 4 if expected else 1)
    assert not any(grade_answers(samples, [""] * len(items), sandbox))


def test_a_confirmation_may_be_worded_otherwise_and_nothing_else_may_differ(sandbox: Sandbox) -> None:
    def prose(answer: str) -> Sample:
        return Sample("calendar_prose", "en", ({"role": "user", "content": ""},), answer)

    def right(expected: str, said: str) -> float:
        return grade_answers([prose(expected)], [said], sandbox)[0]

    assert right("Noted: lunch Monday at 09:30.", "Your lunch is booked for Monday at 09:30.") == 1
    assert right("C'est noté : réunion lundi à 09:30.", "Votre agenda : réunion lundi à 09:30.") == 1
    assert right("Noted: lunch Monday at 09:30.", "Noted: dinner Monday at 09:30.") == 0
    assert right("C'est noté : réunion lundi à 09:30.", "C'est noté : réunion mardi à 09:30.") == 0
    assert right("Your lunch is booked for Monday at 09:30.", "Your lunch is booked for Friday at 14:30.") == 0


def test_a_told_result_is_not_found_in_a_longer_one(sandbox: Sandbox) -> None:
    samples = [item.truth for item in draw_questions("test_reasoning", "any", 3, 80)]
    told = [sample for sample in samples if re.search(r" == (\d)`", sample.answer)]
    assert told
    longer = [re.sub(r" == (\d)`", r" == 1\1`", sample.answer) for sample in told]
    assert grade_answers(told, [sample.answer for sample in told], sandbox) == [1.0] * len(told)
    assert grade_answers(told, longer, sandbox) == [0.0] * len(told)


def test_splits_ask_what_they_should() -> None:
    own = draw_questions("law", "select", 3, N)
    others = draw_questions("law", "report", 3, 100)
    assert all(item.messages[0].role == "system" for item in own)
    facts = [[item.truth.messages[-1]["content"].split("\n")[0] for item in some] for some in (own, others)]
    assert not set(facts[0]) & set(facts[1])
    assert all(len(set(some)) == len(some) for some in facts)  # no question twice
    assert 5 < len(others) < 36  # the world has no more facts
    assert all(chance(item.truth) == 1 / len(choices_of(item.truth)) for item in own)
    assert draw_questions("law", "select", 3, N) == own
