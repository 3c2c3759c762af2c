"""`steergraph vectors lens` and `verify`: what a vector speaks for, and whether it does anything at all.

Knows the command line and how to print. Torch and models are imported only when they run.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from steergraph.base.errors import InputError
from steergraph.base.text import printable
from steergraph.cli.console import print_table
from steergraph.cli.options import Layers, Model, Vector

if TYPE_CHECKING:
    from steergraph.vectors.compare.lens import Look


def lens(
    vector: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", help="a vector of the cache, or a .safetensors file")
    ] = None,
    *,
    text: Annotated[str | None, typer.Option(help="look at the residual behind this user message instead")] = None,
    model: Model = "pocket",
    layer: Layers = None,
    top: Annotated[int, typer.Option(metavar="N", help="tokens at each end")] = 8,
) -> int:
    """Print what is promoted and demoted, layer by layer."""
    from steergraph.cli.vectors.show import find_vector
    from steergraph.engine.activations.texts import text_activations
    from steergraph.engine.loading.models import load_model
    from steergraph.vectors.compare.lens import residual_lens, vector_lens

    if (vector is None) == (text is None):
        raise InputError("give a vector, or --text TEXT, to look at")
    if top < 1:
        raise InputError(f"--top {top}: at least 1")
    found = find_vector(vector, model)[1] if vector else None
    loaded = load_model(model)
    if found is not None:
        shown = vector_lens(loaded, found, layer, top=top)
    else:
        residuals = text_activations(loaded, [text or ""], where="--text").at["last_prompt_token"][:, 0]
        layers = range(loaded.info.n_layers) if layer is None else layer
        if wrong := [one for one in layers if not 0 <= one < loaded.info.n_layers]:
            raise InputError(f"--layer {wrong[0]}: {loaded.info.name} has layers 0 to {loaded.info.n_layers - 1}")
        shown = residual_lens(loaded, {one: residuals[one] for one in layers}, top=top)
    headings = ("layer", "promoted", "demoted") if found is not None else ("layer", "read as")
    rows = [(str(one), *_cells(look))[: len(headings)] for one, look in shown.items()]
    print_table(headings, rows, least=160)
    return 0


def verify(
    vector: Vector,
    *,
    model: Annotated[
        str | None,
        typer.Option(help="switch it on and off on this model too (pocket, a Hugging Face id, a folder)"),
    ] = None,
    layer: Layers = None,
) -> int:
    """Say what holds. 1 where the vector changes nothing at some layer, or does not let go."""
    from steergraph.cli.vectors.show import find_vector
    from steergraph.engine.loading.models import load_model
    from steergraph.engine.local import LocalEngine
    from steergraph.engine.steering.directions import check_fits, layer_ranges
    from steergraph.vectors.compare.verify import DOSE
    from steergraph.vectors.compare.verify import verify as checked
    from steergraph.vectors.library import Library

    path, found = find_vector(vector, model)
    print(f"{printable(str(path))}: whole, hash {found.hash}, finite, layers {layer_ranges(found.directions)}")
    if model is None:
        print("not tried on a model: name one with --model")
        return 0
    loaded = load_model(model)
    check_fits(found, loaded.info)
    print(f"fits {loaded.info.name} {loaded.info.revision}, width {loaded.info.hidden_size}")
    with LocalEngine(loaded, Library({found.name: found})) as engine:
        checks = checked(found, engine, layer)
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
    return repr(token) if token.isascii() else f"'{printable(token, '?')}'"
