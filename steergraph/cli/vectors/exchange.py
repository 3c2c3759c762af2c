"""`steergraph vectors export` and `import`: vectors to and from other projects' files.

Knows the command line and how to print. What the formats are is `formats`' business, imported only inside the commands.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from steergraph.base.errors import InputError
from steergraph.cli.console import print_line
from steergraph.cli.options import IntoPackage, Layers, OfModel, Positions, Unit, Vector

FormatName = Literal["gguf", "lm-eval", "cast", "aisteer360", "easysteer", "neuronpedia", "steergraph"]
"""As in `formats.FORMATS`, which can't be asked without torch; a test holds them together."""


def export(
    vector: Vector,
    *,
    model: OfModel = None,
    to: Annotated[str, typer.Option(metavar="FILE", help="the file to write")],
    format: Annotated[
        FormatName | None, typer.Option(help="default: by the suffix of --to, where that says it")
    ] = None,
    layer: Layers = None,
    alpha: Annotated[float | None, typer.Option(help="the dose; left out, whoever applies the file gives it")] = None,
    unit: Unit = "unit_vector",
    positions: Positions = "all",
    skip_layer_0: Annotated[
        bool, typer.Option("--skip-layer-0", help="gguf: leave it out instead of refusing")
    ] = False,
    model_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="config.model_type, as qwen3; Neuronpedia: its model's id")
    ] = None,
    hookpoint: Annotated[str, typer.Option(help="lm-eval: the list of blocks, h for GPT-2")] = "layers",
    source: Annotated[
        str | None, typer.Option(metavar="PATH", help="easysteer: where its server finds the GGUF")
    ] = None,
    into_package: IntoPackage = False,
) -> int:
    """Write the vector and say where, and what dose is in the file."""
    from steergraph.base.folders import check_outside_package
    from steergraph.cli.vectors.show import find_vector
    from steergraph.vectors.formats import write_vector
    from steergraph.vectors.formats.common import UNKNOWN, model_type_of

    check_outside_package(to, into_package)
    found = find_vector(vector, model)[1]
    path = write_vector(
        found,
        to,
        format,
        layers=tuple(layer) if layer else None,
        alpha=alpha,
        unit=unit,
        positions=positions,
        model_type=model_type,
        skip_layer_0=skip_layer_0,
        hookpoint=hookpoint,
        source=source,
    )
    dose = "no dose in it" if alpha is None else f"alpha {alpha:g} ({unit}) in it"
    if format == "steergraph" or path.suffix == ".safetensors":
        dose = "no dose in it"
    print(f"wrote {path}, {dose}")
    says = path.suffix in (".gguf", ".svec") or format == "easysteer"
    if says and model_type is None and model_type_of(found) == UNKNOWN:
        print("  its architecture is not known, and the file says so; --model-type TYPE names it")
    return 0


def import_file(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help=".gguf, .pt, .svec, .json or .safetensors, told by its content")
    ],
    *,
    out: Annotated[str, typer.Option(metavar="FILE|DIR", help="a .safetensors file, or a folder for it")],
    name: Annotated[
        str | None, typer.Option(help="what to call it (default: as the file does, else the file's name)")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="the model it is of, as Qwen/Qwen3-0.6B; most files don't say")
    ] = None,
    hidden_size: Annotated[int | None, typer.Option(metavar="N", help="refuse a file of another width")] = None,
    side: Annotated[
        Literal["input", "output"] | None, typer.Option(help=".svec: which side of a block its keys mean")
    ] = None,
    layer: Annotated[
        int | None, typer.Option(metavar="K", min=0, help=".pt of a single direction: the block whose output it is for")
    ] = None,
    rows: Annotated[
        Literal["outputs", "hidden-states"] | None,
        typer.Option(help=".pt of [rows, width]: what row 0 is, block 0's output or the embedding's"),
    ] = None,
    into_package: IntoPackage = False,
) -> int:
    """Write what the file holds as vectors of ours, list them, and say which steering the file asks for."""
    from steergraph.base.folders import check_outside_package
    from steergraph.cli.vectors.show import print_vectors
    from steergraph.vectors.formats import notes_of, read_vectors, steering_of
    from steergraph.vectors.store.files import file_name, save_vector
    from steergraph.vectors.store.header import SUFFIX

    check_outside_package(out, into_package)
    vectors = read_vectors(file, name=name, model=model, hidden_size=hidden_size, side=side, layer=layer, rows=rows)
    target = Path(out)
    if target.suffix and (target.suffix != SUFFIX or len(vectors) != 1):
        raise InputError(f"--out {target}: a {SUFFIX} file takes one vector; give a folder for {len(vectors)}")
    paths = [save_vector(one, target if target.suffix else target / file_name(one.name)) for one in vectors]
    print_vectors(vectors)
    for vector, path in zip(vectors, paths, strict=True):
        print(f"wrote {path}")
        for sentence in notes_of(vector):
            print_line(f"  {sentence}")
        steering = steering_of(vector)
        for component in steering.components if steering else ():
            print(
                f"  asked for: layer {component.layer}, alpha {component.alpha:g} raw, {component.positions} positions"
            )
    return 0
