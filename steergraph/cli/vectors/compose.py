"""`steergraph vectors compose`: sums of vectors, and how they lie to each other.

Knows the command line and how to print. What a sum is, is `algebra`'s business.
"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steergraph.base.errors import InputError

if TYPE_CHECKING:
    from steergraph.vectors.vector import SteeringVector


def add_command(commands: Any) -> None:
    """Register it on the `add_subparsers()` object of `steergraph vectors`."""
    compose = commands.add_parser("compose", help="a weighted sum of vectors, with their norms and cosines")
    compose.add_argument(
        "vectors",
        nargs="+",
        metavar="VECTOR[=WEIGHT]",
        help="names or files, as in math=1 law=-0.5 (default weight: 1; a single one is scaled, -1 turns it)",
    )
    compose.add_argument("--model", help="of this model, where several have vectors of those names")
    compose.add_argument(
        "--orthogonal", action="store_true", help="each loses what lies along those before it, in the order given"
    )
    compose.add_argument("--unit", action="store_true", help="bring every direction to length 1 before weighting")
    compose.add_argument("--layer", type=int, metavar="K", help="of the cosines (default: the middle of those shared)")
    compose.add_argument("--name", help="of the sum (default: the file's name)")
    compose.add_argument("--out", metavar="FILE", help="where to write the sum; left out, only the tables are printed")
    compose.set_defaults(run=run_compose)


def run_compose(arguments: argparse.Namespace) -> int:
    """Print norms and cosines, and write the sum where it is asked for."""
    from steergraph.cli.vectors.show import find_vector
    from steergraph.vectors.compare.algebra import weighted_sum
    from steergraph.vectors.store.files import save_vector

    parts = [_part(given) for given in arguments.vectors]
    found = [find_vector(name, arguments.model)[1] for name, _ in parts]
    name = arguments.name or (Path(arguments.out).stem if arguments.out else "sum")
    total = weighted_sum(
        found,
        [weight for _, weight in parts],
        name=name,
        orthogonal=arguments.orthogonal,
        scale="unit_vector" if arguments.unit else "raw",
    )
    shared = sorted(total.directions)
    layer = shared[len(shared) // 2] if arguments.layer is None else arguments.layer
    _tables([*found, total], layer)
    if arguments.out:
        print(f"wrote {save_vector(total, arguments.out)}")
    return 0


def _part(given: str) -> tuple[str, float]:
    name, mark, weight = given.rpartition("=")
    if not mark:
        return given, 1.0
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not name or not math.isfinite(number):
        raise InputError(f"{given!r}: a vector and its weight are said as in math=0.5")
    return name, number


def _tables(vectors: "list[SteeringVector]", layer: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from steergraph.cli.vectors.show import plain
    from steergraph.vectors.compare.algebra import cosine_table, norm_table

    cosines = cosine_table(vectors, layer)
    table = Table("vector", "norm", "norm / residual", *(str(index) for index in range(len(vectors))))
    for index, vector in enumerate(vectors):
        length, share = norm_table([vector])[vector.name][layer]
        numbers = (f"{length:.4g}", "" if share is None else f"{share:.3f}", *(f"{c:.3f}" for c in cosines[index]))
        table.add_row(Text(f"{index} {plain(vector.name)}"), *numbers)
    table.title = f"layer {layer}: norms, and cosines with each other"
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(table)
