"""What a model's products on a CPU are worth: tokens a second of the same model with MKL's float32 products, oneDNN's,
and float16 matrices, in turn.

    python benchmarks/cpu_products.py [--quick] [--model FOLDER ...] [--cpu-time]

Every arm generates greedily through the engine without an end token, one row and eight; prefill is a new prompt
each time, and one token. A round runs every kind of product, in an order that turns; the first is not measured. A
ratio is the speed over that with MKL's products, the median over the rounds, with the least and the most. The loss is
of 1,024 tokens of this repository's README; of random weights it says nothing.
"""

import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from random_model import machine, parser, random_model
from torch import nn

from steergraph.engine.loading.half import has_half_products, pack_half
from steergraph.engine.loading.models import LoadedModel, load_model
from steergraph.engine.loading.products import OneDnnLinear, use_onednn
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Request, Sampling

KINDS = ("MKL", "oneDNN", "float16")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", nargs="+", default=[])
    options.add_argument("--tokens", type=int, default=24)
    options.add_argument("--prompt", type=int, default=256, help="tokens of a prompt")
    given = options.parse_args()
    rounds = 2 if given.quick else given.rounds
    now = time.process_time if given.cpu_time else time.perf_counter
    kinds = KINDS if has_half_products() else KINDS[:2]
    print(f"{machine('cpu')}; {given.tokens} tokens, prompts of {given.prompt}, {rounds} rounds")
    arms = {"1 row": (1, 16, given.tokens), "8 rows": (8, 16, given.tokens), "prefill": (1, given.prompt, 1)}
    for name in given.model or [""]:
        plain = _load(name, "float32") if name else random_model(given.layers, given.hidden, "cpu")
        half = plain
        if len(kinds) > 2:
            half = _load(name, "float16") if name else random_model(given.layers, given.hidden, "cpu")
            if not name:
                pack_half(half.model)
        taken: dict[tuple[str, str], list[float]] = {}
        with LocalEngine(plain, prefix_bytes=0) as exact, LocalEngine(half, prefix_bytes=0) as packed:

            def speed(
                kind: str, arm: str, first: int, exact: LocalEngine = exact, packed: LocalEngine = packed
            ) -> float:
                """Tokens a second: of the answers, or of prompts where the answers are one token long."""
                rows, prompt, tokens = arms[arm]
                asked = [
                    Request(
                        token_ids=tuple(first + row + k % 900 for k in range(prompt)),
                        sampling=Sampling(max_new_tokens=tokens),
                    )
                    for row in range(rows)
                ]
                started = now()
                (packed if kind == "float16" else exact).generate(asked)
                return rows * (prompt if tokens == 1 else tokens) / (now() - started)

            for number in range(rounds + 1):
                for kind in kinds if number % 2 else kinds[::-1]:
                    _switch(plain, kind == "oneDNN")
                    for arm in arms:
                        found = speed(kind, arm, 100 + number)
                        if number:
                            taken.setdefault((arm, kind), []).append(found)
        losses = {"MKL": _loss(plain)} | ({"float16": _loss(half)} if len(kinds) > 2 else {}) if name else {}
        print(f"{plain.info.name}: loss " + ", ".join(f"{one:.4f} {kind}" for kind, one in losses.items()))
        for arm in arms:
            print(f"    {arm:8s} " + "   ".join(_line(kind, taken[arm, kind], taken[arm, "MKL"]) for kind in kinds))


def _load(name: str, weights: str) -> LoadedModel:
    return replace(load_model(name, "cpu", weights), eos_ids=frozenset())


def _line(kind: str, speeds: list[float], base: list[float]) -> str:
    ratios = [one / other for one, other in zip(speeds, base, strict=True)]
    spread = f" {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})" if speeds is not base else ""
    return f"{kind} {statistics.median(speeds):.1f} tokens/s{spread}"


def _loss(loaded: LoadedModel) -> float:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    ids = torch.tensor([loaded.tokenizer(text)["input_ids"][:1024]])
    with torch.inference_mode():
        logits = loaded.model(ids).logits[0, :-1].float()
    return float(nn.functional.cross_entropy(logits, ids[0, 1:]))


def _switch(loaded: LoadedModel, quick: bool) -> None:
    if quick:
        use_onednn(loaded.model)
        return
    for layer in loaded.model.modules():
        if type(layer) is OneDnnLinear:
            layer.__class__ = nn.Linear  # type: ignore[assignment]


if __name__ == "__main__":
    main()
