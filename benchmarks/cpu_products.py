"""What oneDNN's products in the place of MKL's are worth: tokens a second of the same model with both, in turn.

    python benchmarks/cpu_products.py [--quick] [--model FOLDER ...] [--cpu-time]

Every arm generates greedily through the engine without an end token, one row and eight; prefill is a new prompt
each time, and one token. A round runs both kinds of product, in an order that turns; the first is not measured. The
ratio is the speed with oneDNN over that without, the median over the rounds.
"""

import statistics
import time
from dataclasses import replace

from random_model import machine, parser, random_model
from torch import nn

from steergraph.engine.loading.models import LoadedModel, load_model
from steergraph.engine.loading.products import OneDnnLinear, use_onednn
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Request, Sampling


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", nargs="+", default=[])
    options.add_argument("--tokens", type=int, default=24)
    options.add_argument("--prompt", type=int, default=256, help="tokens of a prompt")
    given = options.parse_args()
    rounds = 2 if given.quick else given.rounds
    now = time.process_time if given.cpu_time else time.perf_counter
    print(f"{machine('cpu')}; {given.tokens} tokens, prompts of {given.prompt}, {rounds} rounds")
    models = [replace(load_model(name, "cpu"), eos_ids=frozenset()) for name in given.model]
    for loaded in models or [random_model(given.layers, given.hidden, "cpu")]:
        wide = use_onednn(loaded.model) or sum(type(one) is OneDnnLinear for one in loaded.model.modules())
        taken: dict[tuple[str, bool], list[float]] = {}
        with LocalEngine(loaded, prefix_bytes=0) as engine:

            def speed(rows: int, prompt: int, tokens: int, first: int, engine: LocalEngine = engine) -> float:
                """Tokens a second: of the answers, or of prompts where the answers are one token long."""
                asked = [
                    Request(
                        token_ids=tuple(first + row + k % 900 for k in range(prompt)),
                        sampling=Sampling(max_new_tokens=tokens),
                    )
                    for row in range(rows)
                ]
                started = now()
                engine.generate(asked)
                return rows * (prompt if tokens == 1 else tokens) / (now() - started)

            arms = {"1 row": (1, 16, given.tokens), "8 rows": (8, 16, given.tokens), "prefill": (1, given.prompt, 1)}
            for number in range(rounds + 1):
                for quick in (True, False) if number % 2 else (False, True):
                    _switch(loaded, quick)
                    for arm, (rows, prompt, tokens) in arms.items():
                        found = speed(rows, prompt, tokens, 100 + number)
                        if number:
                            taken.setdefault((arm, quick), []).append(found)
        print(f"{loaded.info.name}: {wide} layers")
        for arm in arms:
            ratios = [one / other for one, other in zip(taken[arm, True], taken[arm, False], strict=True)]
            speeds = [f"{statistics.median(taken[arm, quick]):.1f}" for quick in (False, True)]
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"    {arm:8s} {' -> '.join(speeds)} tokens/s  {statistics.median(ratios):.2f} {spread}")


def _switch(loaded: LoadedModel, quick: bool) -> None:
    if quick:
        use_onednn(loaded.model)
        return
    for layer in loaded.model.modules():
        if type(layer) is OneDnnLinear:
            layer.__class__ = nn.Linear  # type: ignore[assignment]


if __name__ == "__main__":
    main()
