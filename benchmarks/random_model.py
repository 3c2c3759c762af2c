"""What the engine's benchmarks share: a Qwen3-shaped model with random weights, vectors for it, and timing."""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from steergraph.engine.loading.models import LoadedModel, wrap_model
from steergraph.pocket import weights_path
from steergraph.vectors.library import Library
from steergraph.vectors.vector import SteeringVector

VOCABULARY = 16384


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every script here takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a size fit for two cores and a minute")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--layers", type=int, default=12)
    made.add_argument("--hidden", type=int, default=512)
    made.add_argument("--cpu-time", action="store_true", help="the process's CPU time: other programs disturb it less")
    made.add_argument("--rounds", type=int, default=5, help="interleaved repetitions; the median is reported")
    return made


def random_model(layers: int, hidden: int, device: str, *, window: int = 8192) -> LoadedModel:
    """Qwen3's shape at another size, float32, with pocket's tokenizer and no end token: every answer has its length."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        head_dim=64,
        max_position_embeddings=window,
        initializer_range=0.08,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config).to(device)
    tokenizer = AutoTokenizer.from_pretrained(weights_path())
    tokenizer.model_max_length = window
    return replace(wrap_model(model, tokenizer, name="random"), eos_ids=frozenset())


def random_library(loaded: LoadedModel, names: Sequence[str]) -> Library:
    """A random direction of length 1 at every layer for each name."""
    info = loaded.info
    made = {}
    for seed, name in enumerate(names):
        generator = torch.Generator().manual_seed(seed)
        directions = torch.nn.functional.normalize(torch.randn(info.n_layers, info.hidden_size, generator=generator))
        made[name] = SteeringVector(
            name=name,
            directions=dict(enumerate(directions)),
            model=info.name,
            revision=info.revision,
            hidden_size=info.hidden_size,
            method="random",
            contrast_hash="0" * 16,
            read_position="last",
            raw_norms=dict.fromkeys(range(info.n_layers), 1.0),
            median_residual_norms=dict.fromkeys(range(info.n_layers), 10.0),
        )
    return Library(made)


def random_tokens(seed: int, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    drawn: list[int] = torch.randint(5, VOCABULARY, (count,), generator=generator).tolist()
    return drawn


def seconds(work: Callable[[], object], *, cpu_time: bool = False) -> float:
    """Wall time of one call, the device's work included; or the CPU time of all the process's threads."""
    clock = time.process_time if cpu_time else time.perf_counter
    started = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started


def interleaved(
    works: Mapping[str, Callable[[], object]], rounds: int, *, cpu_time: bool = False
) -> dict[str, list[float]]:
    """Seconds of each work, `rounds` times, one after the other, each round in the other direction."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works) if number % 2 == 0 else reversed(list(works)):
            taken[name].append(seconds(works[name], cpu_time=cpu_time))
            print(f"    {name}: {taken[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return taken


def ratio(slow: Sequence[float], fast: Sequence[float]) -> str:
    """Median of the rounds' ratios, with the smallest and the largest."""
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    return f"{statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"


def machine(device: str) -> str:
    """Where the numbers come from."""
    where = torch.cuda.get_device_name() if device.startswith("cuda") else f"{torch.get_num_threads()} CPU threads"
    return f"{where}, torch {torch.__version__}, Python {platform.python_version()}"
