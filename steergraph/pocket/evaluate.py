"""Measure pocket: `python -m steergraph.pocket.evaluate [--model DIR] [--n 300] [--out FILE]`.

Greedy repairs of samples that training never drew: `seen` has other scenes of the training words, `held_out` other
words, phrasings and partly other functions. Each is asked with and without notes. An edit counts as

- `exact` where the answer is the expected text, character for character;
- `repaired` where it names the file and, applied to the shown passage at the only place its old lines stand, gives the
  fixed passage, or one with the same syntax tree;
- `well_formed` where it is one edit block, right or wrong.
"""

import argparse
import ast
import json
import sys
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from steergraph.configs import InputError, load_config
from steergraph.pocket import weights_path
from steergraph.pocket.corpus import Sample, Split, draw_repair
from steergraph.pocket.tokenizer import END


@dataclass(frozen=True)
class Verdict:
    exact: bool
    repaired: bool
    well_formed: bool


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % Wilson interval of a share; (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def parse_block(answer: str) -> tuple[str, list[str], list[str]] | None:
    """Path, old and new lines of an answer that is exactly one edit block; None for anything else."""
    layout = load_config("edit_format")
    lines = answer.strip("\n").split("\n")
    marks = (layout["search"], layout["divider"], layout["replace"])
    if [line for line in lines if line in marks] != list(marks) or len(lines) < 4:
        return None
    if lines[1] != marks[0] or lines[-1] != marks[2]:
        return None
    divider = lines.index(marks[1])
    return lines[0], lines[2:divider], lines[divider + 1 : -1]


def _same_code(first: Sequence[str], second: Sequence[str]) -> bool:
    if list(first) == list(second):
        return True
    try:
        trees = [ast.dump(ast.parse(textwrap.dedent("\n".join(lines)))) for lines in (first, second)]
    except (SyntaxError, ValueError):
        return False
    return trees[0] == trees[1]


def judge(sample: Sample, answer: str) -> Verdict:
    """What an answer to a repair is worth."""
    block = parse_block(answer)
    if block is None or sample.scene is None:
        return Verdict(False, False, False)
    path, old, new = block
    target = sample.scene.passages[sample.scene.target]
    repaired = False
    if path == target.path and old:
        places = [i for i in range(len(target.lines)) if list(target.lines[i : i + len(old)]) == old]
        if len(places) == 1:
            result = [*target.lines[: places[0]], *new, *target.lines[places[0] + len(old) :]]
            repaired = _same_code(result, sample.scene.fixed)
    return Verdict(answer.strip("\n") == sample.answer, repaired, True)


@torch.no_grad()
def answer(model: Any, tokenizer: Any, samples: Sequence[Sample], batch: int = 16, limit: int = 200) -> list[str]:
    """Greedy answers, in the samples' order; prompts of nearly one length share a batch."""
    prompts = [
        tokenizer.apply_chat_template(list(s.messages), tokenize=False, add_generation_prompt=True) for s in samples
    ]
    order = sorted(range(len(samples)), key=lambda i: len(prompts[i]))
    answers = [""] * len(samples)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        encoded = tokenizer(
            [prompts[i] for i in rows], return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        ).to(model.device)
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        end, pad = tokenizer.convert_tokens_to_ids(END), tokenizer.pad_token_id
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=pad,
        )
        for i, row in zip(rows, output[:, ids.shape[1] :], strict=True):
            answers[i] = tokenizer.decode(row, skip_special_tokens=True)
    return answers


def _figures(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    n = len(verdicts)
    result: dict[str, Any] = {"n": n}
    for name in ("repaired", "exact", "well_formed"):
        hits = sum(getattr(verdict, name) for verdict in verdicts)
        low, high = wilson(hits, n)
        result[name] = {"share": round(hits / n, 4) if n else None, "wilson_95": [round(low, 4), round(high, 4)]}
    return result


def evaluate(model: Any, tokenizer: Any, n: int, seed: int = 777, examples: int = 0) -> dict[str, Any]:
    """Figures for `n` repairs of each split, with notes and without; `examples` failures are kept as they were."""
    report: dict[str, Any] = {"n": n, "seed": seed, "splits": {}, "failures": []}
    splits: tuple[Split, ...] = ("seen", "held_out")
    for split in splits:
        families: dict[str, list[Verdict]] = defaultdict(list)
        report["splits"][split] = {}
        for notes in (False, True):
            samples = [draw_repair(seed, index, split, notes) for index in range(n)]
            answers = answer(model, tokenizer, samples)
            verdicts = [judge(sample, text) for sample, text in zip(samples, answers, strict=True)]
            report["splits"][split]["with_notes" if notes else "without_notes"] = _figures(verdicts)
            for sample, text, verdict in zip(samples, answers, verdicts, strict=True):
                families[sample.family].append(verdict)
                if not verdict.repaired and len(report["failures"]) < examples:
                    failure = {"split": split, "family": sample.family, "prompt": sample.messages[-1]["content"]}
                    report["failures"].append({**failure, "expected": sample.answer, "answer": text})
        report["splits"][split]["families"] = {name: _figures(families[name]) for name in sorted(families)}
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m steergraph.pocket.evaluate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", type=Path, default=None, help="model folder; the packaged weights where left out")
    parser.add_argument("--n", type=int, default=300, help="repairs per split, each with and without notes")
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--examples", type=int, default=0, help="failures to keep in the report")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="JSON file; the screen where left out")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        folder = given.model or weights_path()
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: no model there (no config.json); name a folder with --model")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    report = evaluate(
        model, AutoTokenizer.from_pretrained(folder, local_files_only=True), given.n, given.seed, given.examples
    )
    text = json.dumps(report, indent=1)
    if given.out:
        temporary = given.out.with_name(given.out.name + ".part")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(given.out)
    else:
        print(text)
    for split, figures in report["splits"].items():
        for arm in ("without_notes", "with_notes"):
            repaired = figures[arm]["repaired"]
            print(f"{split} {arm}: repaired {repaired['share']:.3f} {repaired['wilson_95']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
