"""Steered against unsteered generation, end to end: pairs in turn, with an unsteered against unsteered control.

    OMP_NUM_THREADS=1 python benchmarks/steered_decode.py [--quick] [--rounds 20] [--batches 1 8] [--tokens 32]
    OMP_NUM_THREADS=1 python benchmarks/steered_decode.py --qwen3-0.6b --batches 1 --rounds 5 --tokens 8

Every arm generates greedily through the engine, all rows together, each row steered by a vector of its own: at one
layer, and at every layer. A round runs every arm once, in an order that turns from round to round. The ratio is
unsteered over steered time, the geometric mean over the rounds with a 95 % t interval; 1.00 means steering is free,
0.97 that it costs 3 %.
"""

import math
import statistics
import time
from dataclasses import replace

import torch
from random_model import machine, parser, random_library, random_model, random_tokens
from scipy.stats import t as student
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from steergraph.engine.loading.models import LoadedModel, wrap_model
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Request, Sampling
from steergraph.engine.steering.records import Component, Steering
from steergraph.pocket import weights_path

NAMES = "abcdefgh"


def qwen3_06b(device: str) -> LoadedModel:
    """The shape of Qwen3-0.6B with random weights, float32."""
    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(weights_path())
    with torch.device(device):
        model = Qwen3ForCausalLM(config)
    return replace(wrap_model(model, tokenizer, name="random"), eos_ids=frozenset())


def interval(slow: list[float], fast: list[float]) -> str:
    """Geometric mean of slow/fast with its 95 % interval."""
    logs = [math.log(one / other) for one, other in zip(slow, fast, strict=True)]
    mean = statistics.mean(logs)
    half = student.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return f"{math.exp(mean):.3f} [{math.exp(mean - half):.3f}, {math.exp(mean + half):.3f}]"


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(rounds=20)
    options.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    options.add_argument("--tokens", type=int, default=32)
    options.add_argument("--qwen3-0.6b", dest="real", action="store_true", help="the shape of Qwen3-0.6B instead")
    given = options.parse_args()
    tokens, rounds = (16, 8) if given.quick else (given.tokens, given.rounds)
    torch.manual_seed(0)
    loaded = qwen3_06b(given.device) if given.real else random_model(given.layers, given.hidden, given.device)
    library, layers, now = random_library(loaded, NAMES), range(loaded.info.n_layers), time.perf_counter
    print(
        f"{machine(given.device)}; {len(layers)} layers, {loaded.info.hidden_size} wide, float32, "
        f"{tokens} tokens a row, {rounds} rounds"
    )
    if given.cpu_time:
        now = time.process_time
    middle = [len(layers) // 2]
    arms = {"unsteered": [], "control": [], "one layer": middle, "every layer": list(layers)}
    with LocalEngine(loaded, library, max_batch=max(given.batches), prefix_bytes=0) as engine:
        for rows in given.batches:

            def run(where: list[int], rows: int = rows) -> float:
                requests = []
                for row in range(rows):
                    components = tuple(Component(vector=NAMES[row % 8], layer=layer, alpha=2.0) for layer in where)
                    steering = Steering(components=components) if where else None
                    sampling = Sampling(max_new_tokens=tokens)
                    prompt = tuple(random_tokens(row, 24))
                    requests.append(Request(token_ids=prompt, steering=steering, sampling=sampling))
                started = now()
                engine.generate(requests)
                return now() - started

            taken: dict[str, list[float]] = {name: [] for name in arms}
            for where in arms.values():
                run(where)
            for number in range(rounds):
                names = list(arms)
                shift = number % len(names)
                for name in names[shift:] + names[:shift]:
                    taken[name].append(run(arms[name]))
            rate = rows * tokens / statistics.median(taken["unsteered"])
            print(f"batch {rows}: {rate:.0f} tokens/s unsteered; speed relative to unsteered, 95 % interval:")
            for name in list(arms)[1:]:
                print(f"    {name:12s} {interval(taken['unsteered'], taken[name])}")


if __name__ == "__main__":
    main()
