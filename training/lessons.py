"""What training sees at each step: the curriculum, batches of the corpus, and lessons in copying.

Knows the plan of a run and where it stands. Knows nothing of the network.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.corpus.samples import Sample, draw_sample
from training.tokenizer import END

WINDOW = 1280


@dataclass
class Progress:
    """Where training stands; all that, beside the tensors, a resumed run needs."""

    step: int = 0
    tokens: int = 0
    drawn: int = 0
    """The corpus' first sample of the pool in use."""
    used: int = 0
    """Batches of that pool that training has seen."""
    pool_stage: float = 0.0
    """The curriculum's stage that it was drawn at."""
    seconds: float = 0.0
    loss: float = 0.0
    """Exponential mean."""
    alphabet: int = 48
    """How many different tokens the copying lessons use."""
    lesson_loss: float = 5.0
    """Exponential mean of the copying lessons' loss."""


@dataclass(frozen=True)
class Plan:
    seed: int = 1
    minutes: float = 50.0
    steps: int = 0
    """0: the clock decides."""
    batch_tokens: int = 4096
    ramp_from: int = 11_000_000
    ramp_to: int = 36_000_000
    """Tokens between which the curriculum's stage goes from 0 to 1."""
    pool: int = 256
    cooldown: float = 0.3
    """The last share of the run, over which the learning rate falls to a twentieth."""
    size: str = "pocket"
    vocab_size: int = 2560
    base: bool = False
    """Learn all of the text, without a chat template."""

    def done(self, progress: Progress) -> float:
        """The share of the run that lies behind."""
        return progress.step / self.steps if self.steps else progress.seconds / (60 * self.minutes)

    def stage(self, tokens: int) -> float:
        return min(1.0, max(0.0, (tokens - self.ramp_from) / (self.ramp_to - self.ramp_from)))

    def lessons(self, progress: Progress) -> float:
        """The share of steps that are copying lessons."""
        if self.size == "tiny":
            return 0.1
        if progress.alphabet < self.vocab_size:
            return 0.7 if progress.alphabet < 300 else 0.5
        # Once the curriculum moves on, copying random tokens is what answers no longer need: it may get a little worse.
        return 0.3 if progress.lesson_loss > 0.8 and not self.stage(progress.tokens) else 0.04

    def rate(self, progress: Progress) -> float:
        falling = min(1.0, (1 - self.done(progress)) / self.cooldown)
        return min(1.0, (progress.step + 1) / 60) * max(0.05, falling)


def encode(tokenizer: Any, sample: Sample, base: bool = False) -> tuple[list[int], list[int]]:
    """Token ids of a sample's prompt and of what is learnt: its answer, or of a `base` model all of its text.

    A base model has no chat template: its text is the messages with a blank line after each, then the answer.
    """
    if base:
        text = "".join(f"{message['content'].strip()}\n\n" for message in sample.messages) + sample.answer + END
        return [], tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    prompt = tokenizer.apply_chat_template(list(sample.messages), tokenize=False, add_generation_prompt=True)
    ids = tokenizer([prompt, sample.answer + END], add_special_tokens=False, verbose=False)["input_ids"]
    return ids[0], ids[1]


def batches(plan: Plan, tokenizer: Any, progress: Progress) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (ids, labels), both [rows, length]; labels are -100 outside the answers.

    Rows of a batch have nearly one length: a pool of samples is sorted, cut into batches of about `batch_tokens`, and
    the batches are shuffled. `progress` says which comes next, and is kept up to date."""
    while True:
        if not progress.used:
            progress.pool_stage = plan.stage(progress.tokens)
        for cut in _pool(plan, tokenizer, progress.drawn, progress.pool_stage)[progress.used :]:
            progress.used += 1
            length = max(len(prompt) + len(answer) for prompt, answer in cut)
            ids = torch.full((len(cut), length), tokenizer.pad_token_id)
            labels = torch.full((len(cut), length), -100)
            for row, (prompt, answer) in enumerate(cut):
                ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
                labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
            yield ids, labels
        progress.drawn, progress.used = progress.drawn + plan.pool, 0


def _pool(plan: Plan, tokenizer: Any, first: int, stage: float) -> list[list[tuple[list[int], list[int]]]]:
    """The batches of the pool that begins with sample `first`: pairs of prompt and answer."""
    pool = []
    for index in range(first, first + plan.pool):
        prompt, answer = encode(tokenizer, draw_sample(plan.seed, index, stage=stage), plan.base)
        if len(prompt) + len(answer) <= WINDOW:
            pool.append((prompt, answer))
    pool.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
    cuts: list[list[tuple[list[int], list[int]]]] = [[]]
    for pair in pool:
        if cuts[-1] and (len(cuts[-1]) + 1) * (len(pair[0]) + len(pair[1])) > plan.batch_tokens:
            cuts.append([])
        cuts[-1].append(pair)
    random.Random(f"{plan.seed}/{first + plan.pool}").shuffle(cuts)
    return cuts


def copying_lesson(plan: Plan, progress: Progress, vocab_size: int, separator: int) -> tuple[Tensor, Tensor]:
    """A batch (ids, labels) of random tokens that occur twice, the second time to be predicted.

    Copying from the context is the one skill that every answer needs and that text teaches late: the loss stands still
    until it is there. Few different tokens teach it within minutes; their number grows with success.
    """
    random_numbers = torch.Generator().manual_seed(plan.seed * 1_000_003 + progress.step)
    tokens = torch.randperm(vocab_size, generator=torch.Generator().manual_seed(plan.seed))[: progress.alphabet]
    longest = 16 if progress.alphabet < 200 else 48
    length, extra = (int(torch.randint(4, longest, (1,), generator=random_numbers)) for _ in range(2))
    rows = max(1, plan.batch_tokens // (2 * length + extra + 1))
    drawn = tokens[torch.randint(0, len(tokens), (rows, length + extra), generator=random_numbers)]
    before, copied, between = torch.split(drawn, [extra // 2, length, extra - extra // 2], dim=1)
    ids = torch.cat([before, copied, between, torch.full((rows, 1), separator), copied], dim=1)
    labels = torch.full_like(ids, -100)
    labels[:, -length:] = copied
    return ids, labels
