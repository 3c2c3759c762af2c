"""What a steered layer call costs: extra microseconds of one call, beside a plain `hidden + alpha * v` hook.

    OMP_NUM_THREADS=1 python benchmarks/steering_overhead.py [--hidden 1024] [--rounds 31] [--quick] [--device cuda]

The layer only makes a new tensor, so that what is measured is the call and the hook. Each arm is one module of its own:
bare, with the plain hook, with the engine's hook and another vector in every row, the same with rows of unlike length
(left-padded), and a layer that the engine's batch does not steer. Arms are interleaved; the median over the rounds of
each round's difference to the bare layer is printed. `announce` is the engine's own work once a forward, for all
layers.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch
from random_model import machine
from torch import nn

from steergraph.engine.steering.hooks import ActiveBatch, SteeringHooks
from steergraph.engine.steering.plans import SteeringPlan

CASES = (("decode, 1 row", 1, 1, 2000), ("decode, 8 rows", 8, 1, 2000), ("prefill, 8 x 256", 8, 256, 20))


class Layer(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.add(hidden, 1.0)


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.layers = nn.ModuleList([Layer()])


def microseconds(work: Callable[[], object], calls: int, cpu_time: bool) -> float:
    now = time.process_time if cpu_time else time.perf_counter
    started = now()
    for _ in range(calls):
        work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (now() - started) / calls * 1e6


def steered(
    stack: ExitStack, rows: int, width: int, hidden: int, device: torch.device, lengths: list[int]
) -> tuple[nn.Module, ActiveBatch]:
    """A layer with the engine's hook, every row with a vector of its own."""
    model = OneLayer()
    plans = [SteeringPlan(ranges=((0, None),), adds={0: torch.randn(1, hidden)}).place(width) for _ in range(rows)]
    batch = stack.enter_context(SteeringHooks(model).steering(plans, device))
    batch.at([length - width for length in lengths], width)
    return model.model.layers[0], batch


def case(
    rows: int, width: int, calls: int, hidden: int, rounds: int, device: torch.device, cpu_time: bool
) -> dict[str, float]:
    x = torch.randn(rows, width, hidden, device=device)
    v, alpha = torch.randn(hidden, device=device), 8.0
    plain = Layer()
    plain.register_forward_hook(lambda module, arguments, output: output + alpha * v)
    whole = [width] * rows
    uneven = [max(1, width - 17 * row) for row in range(rows)]
    with ExitStack() as stack, torch.inference_mode():
        per_row, batch = steered(stack, rows, width, hidden, device, whole)
        padded, _ = steered(stack, rows, width, hidden, device, uneven)
        elsewhere = OneLayer()
        other = SteeringHooks(elsewhere)  # a batch that steers nothing here
        stack.enter_context(other.steering([SteeringPlan().place(width)] * rows, device)).at([0] * rows, width)
        arms = {"bare": Layer(), "plain hook": plain, "per row": per_row, "per row, padded": padded}
        arms["unsteered layer"] = elsewhere.model.layers[0]
        taken: dict[str, list[float]] = {name: [] for name in arms}
        for layer in arms.values():
            layer(x)
        for number in range(rounds):
            for name in list(arms) if number % 2 == 0 else reversed(list(arms)):
                taken[name].append(microseconds(lambda layer=arms[name]: layer(x), calls, cpu_time))  # type: ignore[misc]
        starts = [width] * rows if width == 1 else [0] * rows
        announce = statistics.median(
            microseconds(lambda: batch.at(starts, width), calls, cpu_time) for _ in range(rounds)
        )
    extra = {
        name: statistics.median(one - bare for one, bare in zip(times, taken["bare"], strict=True))
        for name, times in taken.items()
        if name != "bare"
    }
    return {"bare": statistics.median(taken["bare"]), **extra, "announce": announce}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--hidden", type=int, default=1024)
    options.add_argument("--rounds", type=int, default=31)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument(
        "--cpu-time", action="store_true", help="the process's CPU time: other programs disturb it less"
    )
    given = options.parse_args()
    torch.manual_seed(0)
    print(f"{machine(given.device)}; hidden {given.hidden}, float32; extra microseconds a call")
    for name, rows, width, calls in CASES:
        calls = max(5, calls // 10) if given.quick else calls
        found = case(rows, width, calls, given.hidden, given.rounds, torch.device(given.device), given.cpu_time)
        print(f"{name:18s} " + "   ".join(f"{arm} {value:.1f}" for arm, value in found.items()))


if __name__ == "__main__":
    main()
