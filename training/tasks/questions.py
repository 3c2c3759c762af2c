"""What the lab asks pocket's specialists, and whether the answer is right.

Questions are drawn from pocket's generators with seeds that training never used, under the specialist's own system
prompt. Knows the corpus and the sandbox. Knows nothing of arms.
"""

import json
import re
from collections.abc import Sequence
from typing import Literal

from steergraph.agents.speech.answers import extract_answer
from steergraph.base.errors import InputError
from steergraph.engine.protocol import Message
from steergraph.evals.lab.tasks import Question
from steergraph.sandbox.run import Sandbox
from training.corpus.reasoning import questions as facts_of
from training.corpus.samples import Sample
from training.corpus.speech import CAUSES, told_calls, wrong_lines
from training.hidden_tests import judge
from training.tasks.registers import REGISTERS, draw_register

Split = Literal["select", "report", "any"]
_ROOM = {"patch_writing": 120, "code_reading": 110, "math": 64, "calendar": 96}
"""Tokens an answer may have, 80 where nothing is said: what pocket's own answers need. The graph gives patches more."""
_TRIES = 20


def draw_questions(domain: str, split: Split, seed: int, n: int) -> list[Question]:
    """The first `n` questions of a domain, each with its sample as truth. `select` and `report` share none.

    Questions about the invented world are few: `select` and `report` have half of its facts each and ask each once, so
    that there may be fewer than `n`. `any` asks as they come, facts again with other options. Raises InputError for an
    unknown domain.
    """
    if domain not in REGISTERS:
        raise InputError(f"domain {domain!r}: pocket has {', '.join(REGISTERS)}")
    offset = {"select": 0, "report": 1, "any": 0}[split]
    questions: list[Question] = []
    facts: set[str] = set()
    for index in range(_TRIES * n):
        sample = draw_register(domain, seed, offset + 2 * index)  # the splits take turns in one numbering
        fact = fact_of(sample)
        once = split != "any" and _asks_choice(sample)
        if once and (fact in facts or facts_of(sample.kind).index(fact) % 2 != offset):
            continue
        facts.add(fact)
        messages = tuple(Message.model_validate(message) for message in sample.messages)
        questions.append(Question(messages, sample, _ROOM.get(domain, 80)))
        if len(questions) == n:
            break
    return questions


def chance(sample: Sample) -> float:
    """How often guessing is right: one option of several, nothing elsewhere."""
    options = choices_of(sample)
    return 1 / len(options) if options else 0.0


def choices_of(sample: Sample) -> list[str]:
    """The options of a multiple-choice question; none of any other."""
    return re.findall(r"^[A-J]\. (.+)$", sample.messages[-1]["content"], re.MULTILINE) if _asks_choice(sample) else []


def fact_of(sample: Sample) -> str:
    """What a multiple-choice question asks for: its first line, whatever the options."""
    return sample.messages[-1]["content"].split("\n")[0]


def _asks_choice(sample: Sample) -> bool:
    return "\nOptions:\n" in sample.messages[-1]["content"]


def grade_answers(samples: Sequence[Sample], texts: Sequence[str], sandbox: Sandbox) -> list[float]:
    """1 where the answer to a sample is right, else 0.

    A patch is right where the repaired code passes its hidden test; an analysis where it names the cause and the
    suspect, or none where the issue names nothing; a test where it has the call and the result that the issue tells, or
    names what is to be called where it tells none (the corpus' own answers do so in 92 of 100); a reading where it has
    the number of the wrong line and what it should be; a word problem and a choice by their marked answer; an
    appointment where the JSON object, or the sentence, says what is expected.
    """
    patches = [at for at, sample in enumerate(samples) if sample.kind == "patch_writing"]
    verdicts = judge([samples[at] for at in patches], [texts[at] for at in patches], sandbox)
    repaired = {at: verdict.repaired for at, verdict in zip(patches, verdicts, strict=True)}
    pairs = enumerate(zip(samples, texts, strict=True))
    return [float(repaired[at] if at in repaired else _right(sample, text)) for at, (sample, text) in pairs]


def _right(sample: Sample, text: str) -> bool:
    if sample.kind.startswith("calendar"):
        return _calendar_right(sample, text)
    if sample.scene is None:
        choices = choices_of(sample)
        wanted = extract_answer(sample.answer, choices)
        if choices:
            return extract_answer(text, choices) == wanted
        return bool(re.findall(r"^#### *(.+?) *$", text, re.MULTILINE)[-1:] == [wanted])
    if sample.kind == "bug_analysis":
        suspect = re.search(r"Suspects: (`[^`]+`)", sample.answer)
        return CAUSES[sample.family] in text and (suspect[1] in text if suspect else "`" not in text)
    if sample.kind == "test_reasoning":
        issue = sample.messages[-1]["content"]
        told = told_calls(sample.scene, issue)
        if told:
            return any(
                call.text in text and (f"`{call.result}`" in text or f" == {call.result}`" in text) for call in told
            )
        called = re.search(r"(?:calls?|Assert that) (`[^`]+`)", sample.answer)
        return called[1] in text if called else "ssert" in text and "`" not in text
    return _reading_right(sample, text)


def _reading_right(sample: Sample, text: str) -> bool:
    assert sample.scene is not None
    start, _, new_start, _ = wrong_lines(sample.scene)
    number = sample.scene.passages[sample.scene.target].first_line + start
    return f"ine {number} " in text and f"`{sample.scene.fixed[new_start].strip()}`" in text


def _calendar_right(sample: Sample, text: str) -> bool:
    if sample.kind == "calendar_prose":
        return _facts(text) == _facts(sample.answer)
    try:
        return bool(json.loads(text) == json.loads(sample.answer))
    except ValueError:
        return False


_OPENINGS = re.compile(r"^(?:noted|c'est noté|votre agenda) ?: |^your |\bis booked for\b")


def _facts(sentence: str) -> list[str]:
    """What a confirmation says, word by word, without the forms of politeness, of which any will do."""
    return re.findall(r"[\w:-]+", _OPENINGS.sub("", sentence.strip().casefold()))
