"""Tokens a second through one engine: 1, 4, 16 and 64 concurrent requests against the same requests one at a time.

    python benchmarks/throughput.py [--quick] [--concurrent 1 4 16 64] [--device cuda]

Requests of different lengths, prompts and steering (a third unsteered) arrive together, and as some end others join.
One at a time is the same engine, each request awaited before the next. Prompts have nothing in common, so that only
batching is measured; nothing is kept of them.
"""

import random

from random_model import interleaved, machine, parser, random_library, random_model, random_tokens, ratio

from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Request, Sampling
from steergraph.engine.steering.records import Component, Steering


def requests(count: int, prompt: int, tokens: int, layer: int) -> list[Request]:
    """Prompts and answers of half to one and a half times the given lengths, the same ones for the same count."""
    rng = random.Random(count)
    made = []
    for number in range(count):
        steering = None
        if number % 3:
            component = Component(vector="ab"[number % 2], layer=layer, alpha=4.0, positions="all")
            steering = Steering(components=(component,))
        length = rng.randint(prompt // 2, prompt * 3 // 2)
        room = rng.randint(tokens // 2, tokens * 3 // 2)
        made.append(
            Request(
                token_ids=tuple(random_tokens(1000 * count + number, length)),
                steering=steering,
                sampling=Sampling(max_new_tokens=room),
            )
        )
    return made


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--concurrent", type=int, nargs="+", default=[1, 4, 16, 64])
    options.add_argument("--prompt", type=int, default=128)
    options.add_argument("--tokens", type=int, default=48)
    args = options.parse_args()
    if args.quick:
        args.concurrent, args.rounds, args.prompt, args.tokens = [1, 4, 16], 3, 64, 16
    loaded = random_model(args.layers, args.hidden, args.device)
    print(f"{args.layers} layers x {args.hidden}, {machine(args.device)}")
    print(f"about {args.prompt} prompt tokens and {args.tokens} new ones a request; medians of {args.rounds}")
    print("concurrent  one at a time  together     ratio")
    library = random_library(loaded, "ab")
    with LocalEngine(loaded, library, max_batch=64, prefix_bytes=0) as engine:
        for count in args.concurrent:
            asked = requests(count, args.prompt, args.tokens, args.layers // 2)
            said = sum(request.sampling.max_new_tokens for request in asked)
            taken = interleaved(
                {
                    "alone": lambda asked=asked: [engine.generate([request]) for request in asked],
                    "together": lambda asked=asked: engine.generate(asked),
                },
                args.rounds,
                cpu_time=args.cpu_time,
            )
            alone, together = (said / sorted(times)[len(times) // 2] for times in taken.values())
            print(f"{count:10}  {alone:7.1f} tok/s  {together:5.1f} tok/s  {ratio(*taken.values())}", flush=True)


if __name__ == "__main__":
    main()
