"""Options that several commands have, each said once. A command takes them by naming them in its signature."""

from typing import Annotated, Literal

import typer

from steergraph.engine.protocol import WeightType

STATE_VARIABLE = "STEERGRAPH_STATE"
"""Names the Postgres server that keeps graph state; `run`, `ask`, `bench swebench` and `doctor` read it."""

Model = Annotated[str, typer.Option(help="pocket, a Hugging Face id, or a folder")]
Weights = Annotated[WeightType, typer.Option(help="how they are held; auto: float16 where that is quicker")]
OfModel = Annotated[str | None, typer.Option("--model", help="of this model, where several have a vector of that name")]
Vector = Annotated[str, typer.Argument(metavar="NAME|FILE", help="a vector of the cache, or a .safetensors file")]
Layers = Annotated[list[int] | None, typer.Option("--layer", metavar="K", help="only these: 0-based blocks")]
IntoPackage = Annotated[
    bool, typer.Option("--into-package", help="write below steergraph's own source, where vectors/ of a clone leads")
]
State = Annotated[
    str | None,
    typer.Option(metavar="URL", envvar=STATE_VARIABLE, help="graph state in Postgres; left out, in SQLite"),
]
Json = Annotated[bool, typer.Option("--json", help="print it all as JSON")]
Repos = Annotated[
    str | None, typer.Option(metavar="DIR|URL", help="clones and bundles, or a URL with {repo} (default: GitHub)")
]
Instances = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WHICH",
        help="ids with commas, @FILE, a slice 0:20, /REGEX/, balanced:20; several narrow it down, left to right",
    ),
]
Tokenizer = Annotated[
    str | None, typer.Option(metavar="FILE", help="a tokenizer.json to count with (default: 4 characters a token)")
]
Unit = Annotated[Literal["unit_vector", "raw", "residual"], typer.Option(help="of alpha")]
Positions = Annotated[Literal["all", "generated"], typer.Option(help="which tokens are steered")]
