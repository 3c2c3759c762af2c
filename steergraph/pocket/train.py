"""Train pocket: `python -m steergraph.pocket.train --out DIR [--minutes M | --steps N] [--resume] [--tiny]`.

Knows the curriculum (copying and short samples first), the loss (the answer's tokens only) and the checkpoint (one
file, replaced atomically: a kill loses at most the last interval). Corpus, tokenizer, network, optimiser are beside it.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, Qwen3ForCausalLM

from steergraph.configs import InputError
from steergraph.pocket.corpus import Sample, draw_sample
from steergraph.pocket.network import hidden_states, new_model
from steergraph.pocket.optimizer import Optimizer
from steergraph.pocket.tokenizer import END, train_tokenizer

WINDOW = 1280
CHECKPOINT = "checkpoint.safetensors"
MODEL = "interim"


@dataclass
class Progress:
    """Where training stands; all that, beside the tensors, a resumed run needs."""

    step: int = 0
    tokens: int = 0
    drawn: int = 0
    """Samples drawn from the corpus so far."""
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
        return 0.3 if progress.lesson_loss > 0.8 else 0.04

    def rate(self, progress: Progress) -> float:
        falling = min(1.0, (1 - self.done(progress)) / self.cooldown)
        return min(1.0, (progress.step + 1) / 60) * max(0.05, falling)


def encode(tokenizer: Any, sample: Sample) -> tuple[list[int], list[int]]:
    """Token ids of a sample's prompt and of its answer, the end-of-turn token included."""
    prompt = tokenizer.apply_chat_template(list(sample.messages), tokenize=False, add_generation_prompt=True)
    ids = tokenizer([prompt, sample.answer + END], add_special_tokens=False, verbose=False)["input_ids"]
    return ids[0], ids[1]


def batches(plan: Plan, tokenizer: Any, progress: Progress) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (ids, labels), both [rows, length]; labels are -100 outside the answers.

    Rows of a batch have nearly one length: a pool of samples is sorted, cut into batches of about `batch_tokens`, and
    the batches are shuffled."""
    while True:
        stage = plan.stage(progress.tokens)
        pool = []
        for index in range(progress.drawn, progress.drawn + plan.pool):
            prompt, answer = encode(tokenizer, draw_sample(plan.seed, index, stage=stage))
            if len(prompt) + len(answer) <= WINDOW:
                pool.append((prompt, answer))
        progress.drawn += plan.pool
        pool.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        cuts: list[list[tuple[list[int], list[int]]]] = [[]]
        for pair in pool:
            if cuts[-1] and (len(cuts[-1]) + 1) * (len(pair[0]) + len(pair[1])) > plan.batch_tokens:
                cuts.append([])
            cuts[-1].append(pair)
        random.Random(f"{plan.seed}/{progress.drawn}").shuffle(cuts)
        for cut in cuts:
            length = max(len(prompt) + len(answer) for prompt, answer in cut)
            ids = torch.full((len(cut), length), tokenizer.pad_token_id)
            labels = torch.full((len(cut), length), -100)
            for row, (prompt, answer) in enumerate(cut):
                ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
                labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
            yield ids, labels


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


def answer_loss(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of the answers' tokens; logits are computed at those positions only."""
    hidden = hidden_states(model, ids)[:, :-1]
    wanted = labels[:, 1:] != -100
    logits = F.linear(hidden[wanted], model.lm_head.weight.to(hidden.dtype)).float()
    return F.cross_entropy(logits, labels[:, 1:][wanted])


def save_checkpoint(out: Path, model: Any, optimizer: Optimizer, progress: Progress, plan: Plan) -> None:
    """Write everything a resumed run needs to one file, and replace the last one."""
    tensors = {f"model/{name}": value.detach() for name, value in model.named_parameters()} | optimizer.state()
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    temporary = out / f"{CHECKPOINT}.part"
    header = {"progress": json.dumps(asdict(progress)), "plan": json.dumps(asdict(plan))}
    save_file(tensors, temporary, metadata=header)
    temporary.replace(out / CHECKPOINT)


def load_checkpoint(out: Path, model: Any, optimizer: Optimizer) -> Progress:
    """Take over what the last checkpoint holds. Raises InputError where there is none or it is damaged."""
    path = out / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{out}: no {CHECKPOINT} to resume from; leave out --resume to start afresh")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            progress = Progress(**json.loads(file.metadata()["progress"]))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors.pop(f"model/{name}"))
        optimizer.load(tensors)
    except (SafetensorError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a checkpoint of this training: {error}") from error
    return progress


def export(out: Path, model: Any, tokenizer: Any) -> Path:
    """Save model (bfloat16 safetensors) and tokenizer as a folder that transformers loads, replacing the last one."""
    temporary, final = out / f"{MODEL}.part", out / MODEL
    shutil.rmtree(temporary, ignore_errors=True)
    copy = Qwen3ForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    old = out / f"{MODEL}.old"
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.replace(old)
    temporary.replace(final)
    shutil.rmtree(old, ignore_errors=True)
    return final


def _tokenizer(out: Path, plan: Plan) -> Any:
    folder = out / "tokenizer"
    if not folder.is_dir():
        temporary = out / "tokenizer.part"
        shutil.rmtree(temporary, ignore_errors=True)
        train_tokenizer(plan.seed, plan.vocab_size, 300 if plan.size == "tiny" else 6000, WINDOW).save_pretrained(
            temporary
        )
        temporary.replace(folder)
    return AutoTokenizer.from_pretrained(folder)


def train(plan: Plan, out: Path, resume: bool = False, save_minutes: float = 2.0, device: str = "cpu") -> Progress:
    """Train in `out`; the model is in `out`/interim at each checkpoint and at the end. Returns where it ended."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(out, plan)
    end = tokenizer.convert_tokens_to_ids(END)
    model = new_model(plan.size, len(tokenizer), tokenizer.pad_token_id, end, WINDOW, plan.seed).to(device)
    optimizer = Optimizer(model)
    progress = load_checkpoint(out, model, optimizer) if resume else Progress()
    clock, saved, shown, since = time.monotonic(), time.monotonic(), time.monotonic(), progress.tokens
    source = batches(plan, tokenizer, progress)
    while plan.done(progress) < 1:
        lesson = random.Random(f"{plan.seed}/lesson/{progress.step}").random() < plan.lessons(progress)
        ids, labels = copying_lesson(plan, progress, len(tokenizer), end) if lesson else next(source)
        loss = answer_loss(model, ids.to(device), labels.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(plan.rate(progress))
        progress.step += 1
        progress.tokens += ids.numel()
        value = loss.item()
        if lesson:
            progress.lesson_loss = progress.lesson_loss * 0.85 + value * 0.15
            if progress.lesson_loss < 0.7 and progress.alphabet < len(tokenizer):
                progress.alphabet = min(len(tokenizer), progress.alphabet * 2)
        else:
            progress.loss = progress.loss * 0.98 + value * 0.02 if progress.loss else value
        now = time.monotonic()
        progress.seconds, clock = progress.seconds + now - clock, now
        if progress.step % 20 == 0:
            done = max(plan.done(progress), 1e-9)
            print(
                f"step {progress.step}  tokens {progress.tokens / 1e6:.2f} M  loss {progress.loss:.3f}"
                f"  {(progress.tokens - since) / (now - shown):.0f} tok/s  stage {plan.stage(progress.tokens):.2f}"
                f"  copying {progress.lesson_loss:.2f} of {progress.alphabet}"
                f"  left {progress.seconds * (1 - done) / done / 60:.1f} min",
                flush=True,
            )
            shown, since = now, progress.tokens
        if now - saved > 60 * save_minutes:
            save_checkpoint(out, model, optimizer, progress, plan)
            export(out, model, tokenizer)
            saved = time.monotonic()
    save_checkpoint(out, model, optimizer, progress, plan)
    export(out, model, tokenizer)
    return progress


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m steergraph.pocket.train", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and model")
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--steps", type=int, default=0, help="train so many steps instead of --minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-minutes", type=float, default=2.0, help="minutes between checkpoints")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--tiny", action="store_true", help="a toy, to try the trainer")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    plan = Plan(seed=given.seed, minutes=given.minutes, steps=given.steps)
    if given.tiny:
        plan = Plan(given.seed, given.minutes, given.steps, 1024, size="tiny", vocab_size=512, pool=32)
    try:
        progress = train(plan, given.out, given.resume, given.save_minutes, given.device)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{progress.step} steps, {progress.tokens} tokens, {progress.seconds / 60:.1f} minutes,"
        f" loss {progress.loss:.3f}"
    )
    return 0


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # of the whole process, so only where the process is ours
    raise SystemExit(main())
