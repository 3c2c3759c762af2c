"""`steergraph vectors calibrate`: the dose that spends a given KL, and the largest before the text falls apart.

Knows the command line and how to print. Torch and models are imported only when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from steergraph.base.errors import InputError
from steergraph.cli.options import IntoPackage, Model, Positions, Unit, Vector
from steergraph.configs import ConfigError


def calibrate(
    vector: Vector,
    *,
    model: Model = "pocket",
    layer: Annotated[int | None, typer.Option(metavar="K", help="0-based block (default: the vector's cell)")] = None,
    nats: Annotated[float, typer.Option(help="KL to spend: its 95th percentile")] = 1.0,
    unit: Unit = "residual",
    positions: Positions = "all",
    negative: Annotated[bool, typer.Option("--negative", help="search among negative doses")] = False,
    tokens: Annotated[int, typer.Option(metavar="N", help="first tokens that count")] = 32,
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="a YAML list of texts (default: the packaged neutral ones)")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="prompts at most")] = 8,
    no_text: Annotated[
        bool, typer.Option("--no-text", help="leave out the search for the largest dose that holds")
    ] = False,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="where the evidence goes (default: VECTOR.calibration.json)")
    ] = None,
    into_package: IntoPackage = False,
) -> int:
    """Search, print, and write the evidence."""
    from steergraph.base.folders import check_outside_package
    from steergraph.cli.vectors.show import find_vector
    from steergraph.engine.local import LocalEngine
    from steergraph.engine.steering.directions import check_fits
    from steergraph.vectors.dose.calibrate import Limits, save_calibration
    from steergraph.vectors.dose.calibrate import calibrate as search
    from steergraph.vectors.dose.cells import best_cell
    from steergraph.vectors.dose.measure import Doses, Switch, perplexity
    from steergraph.vectors.store.files import file_name

    check_outside_package(out, into_package)
    texts = _texts(prompts)
    if limit < 1:
        raise InputError(f"--limit {limit}: at least 1")
    _, loaded = find_vector(vector, model)
    with LocalEngine(model) as engine:
        layer = best_cell(engine.info, loaded.name).layer if layer is None else layer
        check_fits(loaded, engine.info, layer=layer)
        doses = Doses(engine, texts[:limit], tokens=tokens)
        found = search(
            doses,
            Switch(loaded, layer, unit, positions),
            target=nats,
            limits=None if no_text else Limits(),
            sign=-1 if negative else 1,
            command=f"steergraph vectors calibrate {vector} --model {model} --layer {layer}",
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
        for answer in (found.plain, *found.spoken):
            mark = " <" if answer == found.largest else ""
            numbers = f"{perplexity(answer.nll):10.2f} {answer.repetition:8.1%} {answer.empty:6.0%}{mark}"
            print(f"{answer.alpha:10.4g} {answer.relative_dose:10.4f} {numbers}")
        print(f"it falls apart by: {found.failed}" if found.failed else "no dose that was tried makes it fall apart")
    path = Path(out) if out else Path(file_name(loaded.name)).with_suffix(".calibration.json")
    print(f"{found.evidence.summary}\nwrote {save_calibration(found, path)}")
    return 0


def _texts(path: str | None) -> list[str]:
    from steergraph.configs import load_config, load_yaml

    texts = load_yaml(path) if path else load_config("contrast/neutral")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ConfigError(f"{path}: prompts are a YAML list of texts")
    return [str(text) for text in texts]
