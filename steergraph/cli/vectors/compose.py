"""`steergraph vectors compose`: sums of vectors, and how they lie to each other.

Knows the command line and how to print. What a sum is, is `algebra`'s business.
"""

import math
from pathlib import Path
from typing import Annotated

import typer

from steergraph.base.errors import InputError
from steergraph.cli.console import print_table
from steergraph.cli.options import IntoPackage, OfModel


def compose(
    vectors: Annotated[
        list[str],
        typer.Argument(
            metavar="VECTOR[=WEIGHT]",
            help="names or files, as in math=1 law=-0.5 (default weight: 1; a single one is scaled, -1 turns it)",
        ),
    ],
    *,
    model: OfModel = None,
    orthogonal: Annotated[
        bool, typer.Option("--orthogonal", help="each loses what lies along those before it, in the order given")
    ] = False,
    unit: Annotated[bool, typer.Option("--unit", help="bring every direction to length 1 before weighting")] = False,
    layer: Annotated[
        int | None, typer.Option(metavar="K", help="of the cosines (default: the middle of those shared)")
    ] = None,
    name: Annotated[str | None, typer.Option(help="of the sum (default: the file's name)")] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="where to write the sum; left out, only the tables are printed")
    ] = None,
    into_package: IntoPackage = False,
) -> int:
    """Print norms and cosines, and write the sum where it is asked for."""
    from steergraph.base.folders import check_outside_package
    from steergraph.cli.vectors.show import find_vector
    from steergraph.vectors.compare.algebra import cosine_table, norm_table, weighted_sum
    from steergraph.vectors.store.files import save_vector

    check_outside_package(out, into_package)
    parts = [_part(word) for word in vectors]
    found = [find_vector(part, model)[1] for part, _ in parts]
    total = weighted_sum(
        found,
        [weight for _, weight in parts],
        name=name or (Path(out).stem if out else "sum"),
        orthogonal=orthogonal,
        scale="unit_vector" if unit else "raw",
    )
    shared = sorted(total.directions)
    layer = shared[len(shared) // 2] if layer is None else layer
    shown = [*found, total]
    rows = []
    for index, (vector, cosines) in enumerate(zip(shown, cosine_table(shown, layer), strict=True)):
        length, share = norm_table([vector])[vector.name][layer]
        numbers = (f"{length:.4g}", "" if share is None else f"{share:.3f}", *(f"{c:.3f}" for c in cosines))
        rows.append((f"{index} {vector.name}", *numbers))
    headings = ("vector", "norm", "norm / residual", *(str(index) for index in range(len(shown))))
    print_table(headings, rows, title=f"layer {layer}: norms, and cosines with each other", least=120)
    if out:
        print(f"wrote {save_vector(total, out)}")
    return 0


def _part(word: str) -> tuple[str, float]:
    name, mark, weight = word.rpartition("=")
    if not mark:
        return word, 1.0
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not name or not math.isfinite(number):
        raise InputError(f"{word!r}: a vector and its weight are said as in math=0.5")
    return name, number
