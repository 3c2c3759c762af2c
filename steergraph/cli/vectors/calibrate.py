"""`steergraph vectors calibrate`: the dose that spends a given KL, and the largest before the text falls apart.

Knows the command line and how to print. Torch and models are imported only when it runs.
"""

import argparse
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.configs import ConfigError


def add_command(commands: Any) -> None:
    """Register it on the `add_subparsers()` object of `steergraph vectors`."""
    dose = commands.add_parser("calibrate", help="find the dose that spends a given KL, and the largest that holds")
    dose.add_argument("vector", metavar="NAME|FILE", help="a vector of the cache, or a .safetensors file")
    dose.add_argument("--model", default="pocket", help="pocket, a Hugging Face id, or a folder (default: pocket)")
    dose.add_argument("--layer", type=int, metavar="K", help="0-based block (default: the vector's cell)")
    dose.add_argument("--nats", type=float, default=1.0, help="KL to spend: its 95th percentile (default: 1)")
    dose.add_argument("--unit", choices=("unit_vector", "raw", "residual"), default="residual", help="of alpha")
    dose.add_argument("--positions", choices=("all", "generated"), default="all", help="default: all")
    dose.add_argument("--negative", action="store_true", help="search among negative doses")
    dose.add_argument("--tokens", type=int, default=32, metavar="N", help="first tokens that count (default: 32)")
    dose.add_argument("--prompts", metavar="FILE", help="a YAML list of texts (default: the packaged neutral ones)")
    dose.add_argument("--limit", type=int, default=8, metavar="N", help="prompts at most (default: 8)")
    dose.add_argument("--no-text", action="store_true", help="leave out the search for the largest dose that holds")
    dose.add_argument("--out", metavar="FILE", help="where the evidence goes (default: VECTOR.calibration.json)")
    dose.set_defaults(run=run_calibrate)


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Search, print, and write the evidence."""
    from steergraph.cli.vectors.show import find_vector
    from steergraph.engine.local import LocalEngine
    from steergraph.engine.steering.directions import check_fits
    from steergraph.vectors.dose.calibrate import Limits, calibrate, save_calibration
    from steergraph.vectors.dose.cells import best_cell
    from steergraph.vectors.dose.measure import Doses, Switch, perplexity
    from steergraph.vectors.store.files import file_name

    prompts = _prompts(arguments.prompts)
    if arguments.limit < 1:
        raise InputError(f"--limit {arguments.limit}: at least 1")
    _, vector = find_vector(arguments.vector, arguments.model)
    with LocalEngine(arguments.model) as engine:
        layer = best_cell(engine.info, vector.name).layer if arguments.layer is None else arguments.layer
        check_fits(vector, engine.info, layer=layer)
        doses = Doses(engine, prompts[: arguments.limit], tokens=arguments.tokens)
        found = calibrate(
            doses,
            Switch(vector, layer, arguments.unit, arguments.positions),
            target=arguments.nats,
            limits=None if arguments.no_text else Limits(),
            sign=-1 if arguments.negative else 1,
            command=f"steergraph vectors calibrate {arguments.vector} --model {arguments.model} --layer {layer}",
        )
    print(
        f"{'alpha':>10} {'x residual':>10} {'p95 KL':>8} {'mean':>8} {'first':>8}   (nats, {found.kl_positions} tokens)"
    )
    for one in found.kl:
        mark = " <" if one == found.chosen else ""
        print(
            f"{one.alpha:10.4g} {one.relative_dose:10.4f} {one.p95:8.3f} {one.mean:8.3f} {one.first_token:8.3f}{mark}"
        )
    if found.plain is not None:
        print(f"\n{'alpha':>10} {'x residual':>10} {'perplexity':>10} {'repeated':>8} {'empty':>6}")
        for said in (found.plain, *found.spoken):
            numbers = f"{perplexity(said.nll):10.2f} {said.repetition:8.1%} {said.empty:6.0%}"
            print(f"{said.alpha:10.4g} {said.relative_dose:10.4f} {numbers}{' <' if said == found.largest else ''}")
        print(f"it falls apart by: {found.failed}" if found.failed else "no dose that was tried makes it fall apart")
    path = Path(arguments.out) if arguments.out else Path(file_name(vector.name)).with_suffix(".calibration.json")
    print(f"{found.evidence.summary}\nwrote {save_calibration(found, path)}")
    return 0


def _prompts(path: str | None) -> list[str]:
    from steergraph.configs import load_config, load_yaml

    texts = load_yaml(path) if path else load_config("contrast/neutral")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ConfigError(f"{path}: prompts are a YAML list of texts")
    return [str(text) for text in texts]
