"""Pocket's tasks as the lab takes them: one object that a sweep and a switching study both ask.

Knows the seeds of what is drawn for them. How things are drawn and judged is its neighbours' business.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from steergraph.evals.lab.tasks import Question, Split
from steergraph.sandbox.run import Sandbox
from training.tasks.cases import GeneratedIssue, draw_cases, repaired
from training.tasks.questions import draw_questions, grade_answers
from training.tasks.registers import REGISTERS, Registers, corpus_registers, corpus_texts, draw_register

LESSONS, EXAM = "the classifier's lessons", "the classifier's exam"
"""Seeds of the classifier's texts: those it learns from and those it is judged on."""


class PocketTasks:
    """The lab's SweepTasks and SwitchingTasks over pocket's corpus."""

    domains = REGISTERS

    def questions(self, domain: str, split: Split, seed: int, n: int) -> list[Question]:
        return draw_questions(domain, split, seed, n)

    def grade(self, truths: Sequence[Any], texts: Sequence[str], sandbox: Sandbox) -> list[float]:
        return grade_answers(truths, texts, sandbox)

    def prompts(self, domain: str, seed: int) -> Iterator[tuple[str, str]]:
        for index in count():
            messages = draw_register(domain, f"prompts of {seed}", index).messages
            yield messages[0]["content"], messages[-1]["content"]

    def classifier(self) -> Registers:
        return corpus_registers(LESSONS)

    def spoken(self) -> list[tuple[str, str]]:
        return corpus_texts(EXAM, 60)

    def cases(self, seed: int, n: int) -> list[GeneratedIssue]:
        return draw_cases(seed, n)

    def repaired(self, cases: Sequence[Any], texts: Sequence[str | None], sandbox: Sandbox) -> list[bool]:
        return repaired(cases, texts, sandbox)


POCKET = PocketTasks()
