"""`steergraph models`: the models that have short names: which there are, fetching one, and what one is.

Knows the command line and printing. Torch is not imported.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from steergraph.base.errors import InputError
from steergraph.cli.console import print_line, print_table
from steergraph.engine.loading.named.catalog import NamedModel, catalog, missing, named, place_of
from steergraph.engine.loading.weights import GGUF, hub_folder

_TEMPLATE = "tokenizer.chat_template"
Name = Annotated[str, typer.Argument(metavar="NAME", help="a name of `steergraph models list`")]


def list_models() -> int:
    """List the models that have names, and which of them are on this machine."""
    rows = []
    for name, entry in catalog().items():
        size = f"{entry.file.bytes / 1e6:.0f} MB" if entry.file else ""
        sha256 = entry.file.sha256[:16] if entry.file else ""
        rows.append((name, entry.model, _source(entry), size, entry.licence, sha256, _here(name, entry)))
    print_table(("name", "model", "from", "size", "licence", "sha256", "here"), rows, least=160)
    return 0


def fetch(name: Name) -> int:
    """Fetch one model and check its hash; where it is here already, say so."""
    from steergraph.engine.loading.named.fetch import fetch

    path = fetch(name, lambda text: print_line(text, errors=True))
    print_line(f"{name}: {path}")
    return 0


def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE.gguf", help="a name of the list, pocket, or a file")],
    settings: Annotated[
        str | None, typer.Option(metavar="FILE", help="model settings of your own, laid over the model's page")
    ] = None,
    roster: Annotated[str | None, typer.Option(metavar="FILE", help="a roster of your own; prints the whole")] = None,
    policy: Annotated[str | None, typer.Option(metavar="FILE", help="a policy of your own; prints the whole")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="print roster and policy too, as they hold for it")] = False,
) -> int:
    """Print what the catalog and the file say of one model, and how it is talked to, each value with its source."""
    if roster or policy:  # a broken file is told before anything is printed
        from steergraph.agents.policy import Policy
        from steergraph.agents.specialists import Roster

        Roster.load(roster)
        Policy.load(policy)
    facts: dict[str, str] = {}
    if name.lower().endswith(GGUF):
        path: Path | None = Path(name)
        if not Path(name).is_file():
            raise InputError(f"{name}: no such file")
    elif name == "pocket":
        path, facts = None, {"model": "steergraph's own, in this package"}
    else:
        entry = named(name)
        place = place_of(name)
        path = place.path if place else None
        facts = {
            "model": entry.model,
            "licence": entry.licence,
            "from": _source(entry),
            "hub": f"{entry.hub} ({_pinned(entry)})" if entry.hub else "",
            "here": _here(name, entry),
        }
        if path is None and entry.file:
            facts["get it"] = (
                str(missing(name)) if entry.package or not entry.hub else f"steergraph models fetch {name}"
            )
    if path is not None:
        facts |= _of_file(path)
    for key, value in facts.items():
        if value:
            print_line(f"{key:<13}{value}")
    kind = _kind(path)
    _show_settings(name, kind, settings)
    if whole or roster or policy:
        _show_layers(name, kind, settings, roster, policy)
    return 0


def _kind(path: Path | None) -> Literal["instruct", "base"]:
    from steergraph.engine.loading.gguf.reader import read_gguf

    template = path is None or path.suffix != GGUF or bool(read_gguf(path, path.name).values.get(_TEMPLATE))
    return "instruct" if template else "base"


def _show_settings(name: str, kind: Literal["instruct", "base"], own: str | None) -> None:
    """Every value of the model's settings, and where it is from."""
    from steergraph.agents.speech.model_settings import page_of, settings_sources

    print_line(f"{'settings':<13}{page_of(name, kind)}")
    _print_values("setting", list(settings_sources(name, kind, own)))


def _show_layers(
    name: str, kind: Literal["instruct", "base"], settings: str | None, roster: str | None, policy: str | None
) -> None:
    """Roster and policy as they hold for the model: the packaged ones, what its settings say of them, the user's."""
    from steergraph.agents.speech.model_settings import page_of, settings_tables
    from steergraph.configs import load_config, load_yaml
    from steergraph.configs.overlay import layered

    _, said = settings_tables(name, kind, settings)
    packaged = {key: value for key, value in load_config("specialists").items() if key != "sections"}
    parts = (("roster", packaged, roster, ()), ("policy", load_config("policy"), policy, ("rules",)))
    for part, table, own, first in parts:
        over = [(settings or f"settings of {page_of(name, kind)}", said[part])] if said.get(part) else []
        over += [(own, load_yaml(own))] if own else []
        print_line("")
        _print_values(part, layered(table, *over, first=first))


def _print_values(what: str, values: Sequence[tuple[str, Any, str]]) -> None:
    rows = [(key, json.dumps(value, ensure_ascii=False), where) for key, value, where in values]
    print_table((what, "value", "from"), rows)


def _of_file(path: Path) -> dict[str, str]:
    from steergraph.engine.loading.gguf.reader import read_gguf
    from steergraph.engine.loading.hashes import sha256_of

    file = read_gguf(path, path.name)
    layers, width, heads = (file.of_model(key) for key in ("block_count", "embedding_length", "attention.head_count"))
    tokens, splitting = len(file.of_tokenizer("tokens") or ()), file.of_tokenizer("pre", "")
    return {
        "file": str(path),
        "sha256": sha256_of(path),
        "family": file.architecture,
        "shape": f"{layers} layers, {width} wide, {heads} heads ({file.of_model('attention.head_count_kv', heads)} kv)",
        "parameters": f"{file.parameters / 1e6:.0f} million",
        "window": str(file.of_model("context_length")),
        "quantization": f"{file.quantization}: "
        + ", ".join(f"{name} {part:.1%}" for name, part in file.shares.items()),
        "tokens": f"{tokens}, {file.of_tokenizer('model')} {splitting}",
        "template": "yes" if file.values.get("tokenizer.chat_template") else "none",
    }


def _source(entry: NamedModel) -> str:
    if entry.package:
        return f"package {entry.package.name} {entry.package.version}"
    return f"hub {entry.hub}" if entry.hub else "a file of yours"


def _pinned(entry: NamedModel) -> str:
    return "main, not pinned" if entry.revision == "main" else entry.revision


def _here(name: str, entry: NamedModel) -> str:
    try:
        place = place_of(name)
    except InputError as error:
        return str(error)
    if place:
        return f"yes, {place.where}"
    return "yes, the hub's cache" if entry.hub and hub_folder(entry.hub, entry.revision) else "no"
