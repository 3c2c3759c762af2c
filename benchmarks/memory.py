"""Peak memory of a batch: how it grows with prompt length, rows, vectors, and what is kept of prompts.

    python benchmarks/memory.py [--quick] [--device cuda]

Every line is a process of its own that loads the model, runs one batch and says by how much its peak rose above the
loaded model: resident memory on a CPU, allocated memory on a GPU.
"""

import json
import resource
import subprocess
import sys
from itertools import product
from pathlib import Path

import torch
from random_model import machine, parser, random_library, random_model, random_tokens

from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Request, Sampling
from steergraph.engine.steering.records import Component, Steering

CHILD = "--child"


def peak(device: str) -> float:
    """MiB at the highest so far."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


def child(case: dict[str, int], layers: int, hidden: int, device: str) -> None:
    loaded = random_model(layers, hidden, device)
    names = [f"v{number}" for number in range(max(1, case["vectors"]))]
    library = random_library(loaded, names)
    with LocalEngine(loaded, library, max_batch=64, prefix_bytes=case["kept"]) as engine:
        engine.generate([Request(token_ids=(5, 6, 7), sampling=Sampling(max_new_tokens=2))])
        before = peak(device)
        asked = []
        for row in range(case["rows"]):
            several = names[: case["vectors"]]
            components = tuple(Component(vector=name, layer=layers // 2, alpha=1.0) for name in several)
            asked.append(
                Request(
                    token_ids=tuple(random_tokens(row, case["prompt"])),
                    steering=Steering(components=components) if components else None,
                    sampling=Sampling(max_new_tokens=8),
                )
            )
        engine.generate(asked)
        print(json.dumps({"model": before, "more": peak(device) - before}))


def main() -> None:
    options = parser(__doc__)
    options.add_argument(CHILD, default="", help="for the script itself")
    args = options.parse_args()
    if args.child:
        return child(json.loads(args.child), args.layers, args.hidden, args.device)
    kept = 2**29
    cases = [
        {"prompt": prompt, "rows": rows, "vectors": 1, "kept": kept}
        for prompt, rows in product((128, 512, 1024), (1, 8))
    ]
    cases += [{"prompt": 512, "rows": 8, "vectors": vectors, "kept": kept} for vectors in (0, 8, 64)]
    cases += [{"prompt": 512, "rows": 8, "vectors": 1, "kept": 0}]
    if args.quick:
        cases = cases[1:4:2] + cases[-2:]
    print(f"{args.layers} layers x {args.hidden}, {machine(args.device)}")
    print("prompt  rows  vectors a row  prompts kept  MiB above the loaded model")
    for case in cases:
        command = [sys.executable, __file__, "--device", args.device, CHILD, json.dumps(case)]
        command += ["--layers", str(args.layers), "--hidden", str(args.hidden)]
        said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent).stdout
        more = json.loads(said.splitlines()[-1])["more"]
        row = f"{case['prompt']:6}  {case['rows']:4}  {case['vectors']:13}  {'yes' if case['kept'] else 'no':>12}"
        print(f"{row}  {more:26.0f}", flush=True)


if __name__ == "__main__":
    main()
