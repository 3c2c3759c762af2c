"""`steergraph vectors lens` and `verify`: what a vector speaks for, and whether it does anything at all.

Knows the command line and how to print. Torch and models are imported only when they run.
"""

import argparse
from typing import TYPE_CHECKING, Any

from steergraph.base.errors import InputError

if TYPE_CHECKING:
    from steergraph.vectors.compare.lens import Look


def add_commands(commands: Any) -> None:
    """Register both on the `add_subparsers()` object of `steergraph vectors`."""
    lens = commands.add_parser("lens", help="tokens that a vector, or the residual after a text, speaks for")
    lens.add_argument("vector", nargs="?", metavar="NAME|FILE", help="a vector of the cache, or a .safetensors file")
    lens.add_argument("--text", help="look at the residual behind this user message instead")
    lens.add_argument("--model", default="pocket", help="pocket, a Hugging Face id, or a folder (default: pocket)")
    lens.add_argument("--layer", type=int, nargs="+", metavar="K", help="only these (default: all)")
    lens.add_argument("--top", type=int, default=8, metavar="N", help="tokens at each end (default: 8)")
    lens.set_defaults(run=run_lens)

    verify = commands.add_parser(
        "verify", help="check a vector's file, that it fits a model, and that it does something"
    )
    verify.add_argument("vector", metavar="NAME|FILE", help="a vector of the cache, or a .safetensors file")
    verify.add_argument("--model", help="switch it on and off on this model too (pocket, a Hugging Face id, a folder)")
    verify.add_argument("--layer", type=int, nargs="+", metavar="K", help="only at these (default: all)")
    verify.set_defaults(run=run_verify)


def run_lens(arguments: argparse.Namespace) -> int:
    """Print what is promoted and demoted, layer by layer."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from steergraph.cli.vectors.show import find_vector
    from steergraph.engine.activations.texts import text_activations
    from steergraph.engine.loading.models import load_model
    from steergraph.vectors.compare.lens import residual_lens, vector_lens

    if (arguments.vector is None) == (arguments.text is None):
        raise InputError("give a vector, or --text TEXT, to look at")
    if arguments.top < 1:
        raise InputError(f"--top {arguments.top}: at least 1")
    vector = find_vector(arguments.vector, arguments.model)[1] if arguments.vector else None
    loaded = load_model(arguments.model)
    if vector is not None:
        shown = vector_lens(loaded, vector, arguments.layer, top=arguments.top)
    else:
        residuals = text_activations(loaded, [arguments.text], where="--text").at["last_prompt_token"][:, 0]
        layers = range(loaded.info.n_layers) if arguments.layer is None else arguments.layer
        if wrong := [layer for layer in layers if not 0 <= layer < loaded.info.n_layers]:
            raise InputError(f"--layer {wrong[0]}: {loaded.info.name} has layers 0 to {loaded.info.n_layers - 1}")
        shown = residual_lens(loaded, {layer: residuals[layer] for layer in layers}, top=arguments.top)
    table = Table("layer", "promoted", "demoted") if vector is not None else Table("layer", "read as")
    for layer, look in shown.items():
        cells = _cells(look) if vector is not None else _cells(look)[:1]
        table.add_row(str(layer), *(Text(cell, overflow="fold") for cell in cells))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(table)
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Say what holds. 1 where the vector changes nothing at some layer, or does not let go."""
    from steergraph.cli.vectors.show import find_vector, plain
    from steergraph.engine.loading.models import load_model
    from steergraph.engine.local import LocalEngine
    from steergraph.engine.steering.directions import check_fits, layer_ranges
    from steergraph.vectors.compare.verify import DOSE, verify
    from steergraph.vectors.library import Library

    path, vector = find_vector(arguments.vector, arguments.model)
    print(f"{plain(str(path))}: whole, hash {vector.hash}, finite, layers {layer_ranges(vector.directions)}")
    if arguments.model is None:
        print("not tried on a model: name one with --model")
        return 0
    loaded = load_model(arguments.model)
    check_fits(vector, loaded.info)
    print(f"fits {loaded.info.name} {loaded.info.revision}, width {loaded.info.hidden_size}")
    with LocalEngine(loaded, Library({vector.name: vector})) as engine:
        checks = verify(vector, engine, arguments.layer)
    for check in checks:
        state = f"changes a token by up to {check.change:.3g} nats" if check.change > 1e-6 else "CHANGES NOTHING"
        print(f"layer {check.layer}: {state}{'' if check.back else ', AND STAYS ON WHEN IT IS SWITCHED OFF'}")
    good = all(check.ok for check in checks)
    print(f"{'ok' if good else 'NOT OK'} (on at {DOSE:g} of the residual, then off)")
    return 0 if good else 1


def _cells(look: "Look") -> tuple[str, str]:
    one, other = (" ".join(_quoted(seen.token) for seen in side) for side in (look.promoted, look.demoted))
    return one, other


def _quoted(token: str) -> str:
    """A token as a person can read it: spaces and control characters shown, nothing that steers a terminal."""
    return repr(token) if token.isascii() else "'" + "".join(c if c.isprintable() else "?" for c in token) + "'"
