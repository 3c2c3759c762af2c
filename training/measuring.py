"""What the measurements of a model share: asking, shares with intervals, the command line, the report.

Knows the engine's protocol. Knows nothing of what is asked.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from steergraph.agents.driving import versions
from steergraph.base.errors import InputError
from steergraph.base.files import need_writable, write_or_print
from steergraph.engine.protocol import Engine, Message, Request, Sampling
from steergraph.evals.stats import Interval, wilson
from steergraph.sandbox.run import Sandbox

Measure = Callable[[Engine, Sandbox, argparse.Namespace], dict[str, Any]]
"""From an engine, a sandbox and the options to the figures of a report."""


def ask(
    engine: Engine, prompts: Sequence[Sequence[Message | dict[str, str]]], most_tokens: int, seed: int | None = None
) -> list[str]:
    """What the engine answers to each prompt: greedy, or drawn at temperature 0.8 with `seed`."""
    requests = [
        Request(
            messages=tuple(Message.model_validate(message) for message in messages),
            sampling=Sampling(max_new_tokens=most_tokens, temperature=0.0 if seed is None else 0.8),
            seed=0 if seed is None else seed * 100_003 + at,
        )
        for at, messages in enumerate(prompts)
    ]
    return [completion.text for completion in engine.generate(requests)]


def rounded(share: Interval) -> list[float]:
    """[estimate, low, high], to four digits."""
    return [round(value, 4) for value in (share.estimate, share.low, share.high)]


def share_of(hits: Sequence[float]) -> list[float]:
    """The share of hits among zeros and ones, with Wilson's interval."""
    return rounded(wilson(int(sum(hits)), len(hits)))


def parser_of(module: str, doc: str | None, seed: int) -> argparse.ArgumentParser:
    """The options that every measurement has; its module's first line is the help."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=(doc or "").split("\n")[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--n", type=int, default=300, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--out", type=Path, help="JSON file; the screen where left out")
    return parser


def report(measure: Measure, parser: argparse.ArgumentParser, arguments: Sequence[str] | None, **local: Any) -> int:
    """Measure what the command line names and write the report; 2 where the input is wrong. `local` goes to the
    engine."""
    options = parser.parse_args(arguments)
    from steergraph.engine.local import LocalEngine

    try:
        for name, least in (("n", 1), ("samples", 0)):
            if getattr(options, name, least) < least:
                raise InputError(f"--{name} {getattr(options, name)}: at least {least}")
        need_writable(options.out)
        sandbox = Sandbox.detect()
        with LocalEngine(options.model, **local) as engine:
            numbers = {name: getattr(options, name) for name in ("n", "samples", "seed") if name in options}
            words = [parser.prog, "--model", engine.info.name, *(f"--{key} {value}" for key, value in numbers.items())]
            head = {"model": engine.info.model_dump(), "n": options.n, "seed": options.seed}
            head |= {"command": " ".join(words), "versions": versions()}
            found = head | measure(engine, sandbox, options)
        write_or_print(options.out, json.dumps(found, indent=1) + "\n")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
