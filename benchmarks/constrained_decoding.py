"""What holding an answer to a grammar costs: a decode step with and without one, of one row, in turn.

    OMP_NUM_THREADS=1 python benchmarks/constrained_decoding.py [--quick] [--model pocket FOLDER ...] [--cpu-time]

Every arm generates greedily through the engine without an end token, so that all answers have their length where the
grammar lets them. A round runs every arm once, in an order that turns from round to round; the first is not measured.
The ratio is a step with the grammar over a step without one, the median over the rounds: 1.05 means 5 % more. `control`
is a second arm without one.
"""

import statistics
import time
from dataclasses import replace
from pathlib import Path

from random_model import machine, parser

from steergraph.agents.edits.grammar import search_replace
from steergraph.engine.constrain.grammar import Grammar
from steergraph.engine.loading.models import load_model
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Message, Request, Sampling

TEXTS = {"type": "array", "items": {"type": "string", "minLength": 300}, "minItems": 9}
PROMPT = "Say in a few words what `total` does, and how it is called."


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(rounds=9)
    options.add_argument("--model", nargs="+", default=["pocket"])
    options.add_argument("--tokens", type=int, default=48)
    given = options.parse_args()
    tokens, rounds = (24, 3) if given.quick else (given.tokens, given.rounds)
    now = time.process_time if given.cpu_time else time.perf_counter
    here = Path(__file__)
    arms = {
        "none": None,
        "control": None,
        "JSON": Grammar(json_schema=TEXTS),
        "regex": Grammar(regex="[a-z ]{5000}"),
        "edit": search_replace({here.name: here.read_text(encoding="utf-8")}).grammar,
    }
    print(f"{machine(given.device)}; one row, {tokens} tokens, {rounds} rounds")
    for name in given.model:
        loaded = replace(load_model(name, given.device), eos_ids=frozenset())
        with LocalEngine(loaded) as engine:

            def step(grammar: Grammar | None, engine: LocalEngine = engine) -> float:
                """Milliseconds a token."""
                messages = (Message(role="user", content=PROMPT),)
                request = Request(messages=messages, grammar=grammar, sampling=Sampling(max_new_tokens=tokens))
                started = now()
                (answer,) = engine.generate([request])
                return 1000 * (now() - started) / max(1, len(answer.token_ids))

            taken: dict[str, list[float]] = {arm: [] for arm in arms}
            for number in range(rounds + 1):
                order = [*arms][number % len(arms) :] + [*arms][: number % len(arms)]
                for arm in order:
                    milliseconds = step(arms[arm])
                    if number:
                        taken[arm].append(milliseconds)
        print(f"{engine.info.name}: {statistics.median(taken['none']):.2f} ms a step")
        for arm in [*arms][1:]:
            ratios = [one / free for one, free in zip(taken[arm], taken["none"], strict=True)]
            print(f"    {arm:8s} {statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
