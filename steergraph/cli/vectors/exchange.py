"""`steergraph vectors export` and `import`: vectors to and from other projects' files.

Knows the command line and how to print. What the formats are is `formats`' business, imported only inside the commands.
"""

import argparse
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError

FORMAT_NAMES = ("gguf", "lm-eval", "cast", "aisteer360", "easysteer", "neuronpedia", "steergraph")
"""As in `formats.FORMATS`, which can't be asked without torch; a test holds them together."""


def add_commands(commands: Any) -> None:
    """Register both on the `add_subparsers()` object of `steergraph vectors`."""
    export = commands.add_parser("export", help="write a vector in another project's format (docs/formats.md)")
    export.add_argument("vector", metavar="NAME|FILE", help="a vector of the cache, or a .safetensors file")
    export.add_argument("--model", help="of this model, where several have a vector of that name")
    export.add_argument("--to", required=True, metavar="FILE", help="the file to write")
    export.add_argument("--format", choices=FORMAT_NAMES, help="default: by the suffix of --to, where that says it")
    export.add_argument(
        "--layer", type=int, nargs="+", metavar="K", help="only these (0-based block whose output it is)"
    )
    export.add_argument("--alpha", type=float, help="the dose; left out, whoever applies the file gives it")
    export.add_argument(
        "--unit",
        choices=("unit_vector", "raw", "residual"),
        default="unit_vector",
        help="of alpha (default: unit_vector)",
    )
    export.add_argument("--positions", choices=("all", "generated"), default="all", help="easysteer (default: all)")
    export.add_argument("--skip-layer-0", action="store_true", help="gguf: leave it out instead of refusing")
    export.add_argument("--model-type", metavar="TYPE", help="config.model_type, as qwen3; Neuronpedia: its model's id")
    export.add_argument(
        "--hookpoint", default="layers", help="lm-eval: the list of blocks, h for GPT-2 (default: layers)"
    )
    export.add_argument("--source", metavar="PATH", help="easysteer: where its server finds the GGUF")
    export.set_defaults(run=run_export)

    load = commands.add_parser("import", help="take a vector from another project's file")
    load.add_argument(
        "file", metavar="FILE", help=".gguf, .pt, .svec, .json or .safetensors, told apart by its content"
    )
    load.add_argument("--out", required=True, metavar="FILE|DIR", help="a .safetensors file, or a folder for it")
    load.add_argument("--name", help="what to call it (default: as the file does, else the file's name)")
    load.add_argument("--model", help="the model it is of, as Qwen/Qwen3-0.6B; most files don't say")
    load.add_argument("--hidden-size", type=int, metavar="N", help="refuse a file of another width")
    load.add_argument("--side", choices=("input", "output"), help=".svec: which side of a block its keys mean")
    load.set_defaults(run=run_import)


def run_export(arguments: argparse.Namespace) -> int:
    """Write the vector and say where, and what dose is in the file."""
    from steergraph.cli.vectors.show import find_vector
    from steergraph.vectors.formats import write_vector

    _, vector = find_vector(arguments.vector, arguments.model)
    path = write_vector(
        vector,
        arguments.to,
        arguments.format,
        layers=tuple(arguments.layer) if arguments.layer else None,
        alpha=arguments.alpha,
        unit=arguments.unit,
        positions=arguments.positions,
        model_type=arguments.model_type,
        skip_layer_0=arguments.skip_layer_0,
        hookpoint=arguments.hookpoint,
        source=arguments.source,
    )
    dose = "no dose in it" if arguments.alpha is None else f"alpha {arguments.alpha:g} ({arguments.unit}) in it"
    if arguments.format == "steergraph" or path.suffix == ".safetensors":
        dose = "no dose in it"
    print(f"wrote {path}, {dose}")
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    """Write what the file holds as vectors of ours, list them, and say which steering the file asks for."""
    from steergraph.cli.vectors.show import print_table
    from steergraph.vectors.formats import read_vectors, steering_of
    from steergraph.vectors.store.files import SUFFIX, file_name, save_vector

    vectors = read_vectors(
        arguments.file,
        name=arguments.name,
        model=arguments.model,
        hidden_size=arguments.hidden_size,
        side=arguments.side,
    )
    out = Path(arguments.out)
    if out.suffix and (out.suffix != SUFFIX or len(vectors) != 1):
        raise InputError(f"--out {out}: a {SUFFIX} file takes one vector; give a folder for {len(vectors)}")
    paths = [save_vector(vector, out if out.suffix else out / file_name(vector.name)) for vector in vectors]
    print_table(vectors)
    for vector, path in zip(vectors, paths, strict=True):
        print(f"wrote {path}")
        asked = steering_of(vector)
        for component in asked.components if asked else ():
            print(
                f"  asked for: layer {component.layer}, alpha {component.alpha:g} raw, {component.positions} positions"
            )
    return 0
