"""Train pocket: `python -m training.train --out DIR [--minutes M] [--resume | --start DIR] [--base] [--tiny]`.

Knows the loss (the answer's tokens only) and the checkpoint (one file, replaced atomically: a kill loses at most the
last interval). Curriculum, corpus, tokenizer, network and optimiser are beside it.
"""

import argparse
import json
import math
import random
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from training.lessons import WINDOW, Plan, Progress, batches, copying_lesson
from training.network import hidden_states, new_model
from training.optimizer import Optimizer
from training.tokenizer import CHAT_TEMPLATE, END, train_tokenizer

CHECKPOINT = "checkpoint.safetensors"
MODEL, TOKENIZER = "interim", "tokenizer"
_HOW_LONG = ("minutes", "steps")


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
    header = {"progress": json.dumps(asdict(progress)), "plan": json.dumps(asdict(plan))}
    write_whole(out / CHECKPOINT, save(tensors, metadata=header))


def _checkpoint(out: Path) -> Path:
    path = out / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{out}: no {CHECKPOINT} to resume from; leave out --resume to start afresh")
    return path


def load_checkpoint(out: Path, model: Any, optimizer: Optimizer, plan: Plan) -> Progress:
    """Take over what the last checkpoint holds. Raises InputError where there is none, it is damaged, or it is of
    another plan than `plan`; only how long to train may differ."""
    path = _checkpoint(out)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            before, progress = json.loads(header["plan"]), Progress(**json.loads(header["progress"]))
            other = [key for key, value in asdict(plan).items() if key not in _HOW_LONG and before[key] != value]
            if other:
                raise InputError(f"{path}: of a training with another {other[0]}; give the first command and --resume")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors.pop(f"model/{name}"))
        optimizer.load(tensors)
    except InputError:
        raise
    except (SafetensorError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a checkpoint of this training: {error}") from error
    return progress


def _begin(out: Path, resume: bool, device: str, start: Path | None) -> None:
    """Make the folder. Raises InputError, before that, where the run could not go on."""
    if resume:
        _checkpoint(out)
    elif (out / CHECKPOINT).exists():
        raise InputError(f"{out}: holds a training already; --resume goes on with it, or take another folder")
    if start is not None and not (start / "config.json").is_file():
        raise InputError(f"--start {start}: not the folder of a trained model, which this trainer leaves in `{MODEL}`")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot make this folder: {error.strerror}") from error


def _take_weights(model: Any, start: Path) -> None:
    try:
        trained = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32, local_files_only=True)
        model.load_state_dict(trained.state_dict())
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(f"--start {start}: not a model of this size: {str(error).splitlines()[0]}") from error


def export(out: Path, model: Any, tokenizer: Any, base: bool = False) -> Path:
    """Save model (bfloat16 safetensors) and tokenizer as a folder that transformers loads, replacing the last one."""
    temporary, final = out / f"{MODEL}.part", out / MODEL
    shutil.rmtree(temporary, ignore_errors=True)
    copy = Qwen3ForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.save_pretrained(temporary)
    tokenizer.chat_template = None if base else CHAT_TEMPLATE
    tokenizer.save_pretrained(temporary)
    old = out / f"{MODEL}.old"
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.replace(old)
    temporary.replace(final)
    shutil.rmtree(old, ignore_errors=True)
    return final


def _tokenizer(out: Path, plan: Plan, resume: bool, start: Path | None) -> Any:
    """The tokenizer that a run goes on with, or a new one; `_keep_tokenizer` writes it once the weights are there."""
    if not resume and start is None:
        return train_tokenizer(plan.seed, plan.vocab_size, 300 if plan.size == "tiny" else 6000, WINDOW)
    folder = out / TOKENIZER if resume else start
    try:
        taken = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no tokenizer that can be read: {str(error).splitlines()[0]}") from error
    taken.chat_template = CHAT_TEMPLATE
    return taken


def _keep_tokenizer(out: Path, tokenizer: Any) -> None:
    temporary = out / f"{TOKENIZER}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(out / TOKENIZER, ignore_errors=True)
    temporary.replace(out / TOKENIZER)


def train(
    plan: Plan,
    out: Path,
    resume: bool = False,
    save_minutes: float = 2.0,
    device: str = "cpu",
    start: Path | None = None,
) -> Progress:
    """Train in `out`; the model is in `out`/interim at each checkpoint and at the end. Returns where it ended.

    `start` is a trained model of the same size to go on from, with its tokenizer: it can copy already, so that most
    lessons in copying are left out. Raises InputError where the run can neither begin nor go on.
    """
    _begin(out, resume, device, start)
    tokenizer = _tokenizer(out, plan, resume, start)
    end = tokenizer.convert_tokens_to_ids(END)
    model = new_model(plan.size, len(tokenizer), tokenizer.pad_token_id, end, WINDOW, plan.seed).to(device)
    optimizer = Optimizer(model)
    progress = Progress()
    if resume:
        progress = load_checkpoint(out, model, optimizer, plan)
    elif start is not None:
        _take_weights(model, start)
        progress = Progress(alphabet=len(tokenizer), lesson_loss=0.5)
    if not resume:
        _keep_tokenizer(out, tokenizer)
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
            export(out, model, tokenizer, plan.base)
            saved = time.monotonic()
    save_checkpoint(out, model, optimizer, progress, plan)
    export(out, model, tokenizer, plan.base)
    return progress


def _plan(given: argparse.Namespace) -> Plan:
    minutes = given.minutes if given.minutes is not None else 1.0 if given.tiny else 50.0
    for name, value in (("minutes", minutes), ("save-minutes", given.save_minutes), ("threads", given.threads)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"--{name} {value:g}: more than 0")
    if given.steps < 0:
        raise InputError(f"--steps {given.steps}: 0, for --minutes, or more")
    plan = Plan(seed=given.seed, minutes=minutes, steps=given.steps, base=given.base)
    if given.tiny:
        plan = replace(plan, batch_tokens=1024, size="tiny", vocab_size=512, pool=32)
    if given.start:  # it can copy already, and less of the full rate is needed; a base model's run is too short to ramp
        ramp = (0, 2_000_000) if given.base else (-5_000_000, 20_000_000)
        plan = replace(plan, ramp_from=ramp[0], ramp_to=ramp[1], cooldown=0.6)
    return plan


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and model")
    parser.add_argument("--minutes", type=float, help="50 where left out, 1 of --tiny")
    parser.add_argument("--steps", type=int, default=0, help="train so many steps instead of --minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-minutes", type=float, default=2.0, help="minutes between checkpoints")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--base", action="store_true", help="a model of continuations: all of the text, no template")
    parser.add_argument("--start", type=Path, help="a trained model of the same size to go on from")
    parser.add_argument("--tiny", action="store_true", help="a toy, to try the trainer")
    given = parser.parse_args(arguments)
    try:
        plan = _plan(given)
        torch.set_num_threads(given.threads)
        progress = train(plan, given.out, given.resume, given.save_minutes, given.device, given.start)
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
