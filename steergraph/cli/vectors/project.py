"""`steergraph vectors project`: a vector of one model in another, and whether the two arrange their domains alike.

Knows the command line and how to print. Torch and models are imported only when it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from steergraph.base.errors import InputError
from steergraph.cli.options import IntoPackage

if TYPE_CHECKING:
    from steergraph.engine.loading.models import LoadedModel
    from steergraph.vectors.library import Library
    from steergraph.vectors.vector import SteeringVector


def project(
    domains: Annotated[list[str], typer.Argument(metavar="NAME", help="contrast sets, as math or ./mine.yaml")],
    *,
    source: Annotated[str, typer.Option(metavar="MODEL", help="the model whose vectors are carried over")],
    target: Annotated[str, typer.Option(metavar="MODEL", help="the model they are carried into")],
    method: Annotated[
        Literal["ridge", "procrustes", "low_rank"], typer.Option(help="how the map is learned")
    ] = "ridge",
    layer: Annotated[int | None, typer.Option(metavar="K", help="of the target (default: the domain's cell)")] = None,
    trial: Annotated[bool, typer.Option("--try", help="steer with it, against native and random")] = False,
    nats: Annotated[float, typer.Option(help="--try: KL each direction spends")] = 0.5,
    random: Annotated[int, typer.Option(metavar="N", help="--try: random directions")] = 5,
    geometry: Annotated[
        bool, typer.Option("--geometry", help="compare how both models arrange all packaged domains")
    ] = False,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="where to write the vectors, at every layer")] = None,
    into_package: IntoPackage = False,
) -> int:
    """Learn the maps, carry the vectors over, print how good they are."""
    from steergraph.base.folders import check_outside_package
    from steergraph.engine.loading.models import load_model
    from steergraph.vectors.compare.projection import project_vector
    from steergraph.vectors.compare.transfer import learn_maps, packaged_texts, read_both
    from steergraph.vectors.dose.cells import best_cell
    from steergraph.vectors.extract.contrast import load_contrast
    from steergraph.vectors.extract.first_use import ensure_vectors
    from steergraph.vectors.store.files import file_name, save_vector

    check_outside_package(out, into_package)
    sets = {one.name: one for one in map(load_contrast, domains)}
    if random < 0:
        raise InputError(f"--random {random}: 0 or more")
    giver, taker = load_model(source), load_model(target)
    natives = [ensure_vectors(model, sets.values()) for model in (giver, taker)]
    layers = range(taker.info.n_layers)
    if layer is not None and layer not in layers:
        raise InputError(f"--layer {layer}: {taker.info.name} has layers 0 to {taker.info.n_layers - 1}")
    texts = packaged_texts(sorted({one.language for one in sets.values()}))
    activations = read_both(giver, taker, texts)
    print(f"{giver.info.name} to {taker.info.name}, {method}, {len(texts.texts)} texts read by both")
    print("vector, its layer there and here, held-out R2 of the map, cosine with the target's own vector")
    for name, contrast in sets.items():
        maps, scores = learn_maps(activations, texts, contrast.domain, layers, method)
        native = natives[1][name]
        carried = project_vector(
            natives[0][name],
            maps,
            taker.info,
            median_residual_norms=native.median_residual_norms,
            held_out_r2=scores,
        )
        at = best_cell(taker.info, name).layer if layer is None else layer
        print(f"  {name}: {maps[at][0]} to {at}, R2 {scores[at]:.3f}, cosine {_cosine(carried, native, at)}")
        if trial:
            _try(taker, carried, native, at, contrast, nats=nats, random=random)
        if out:
            print(f"  wrote {save_vector(carried, Path(out) / file_name(name))}")
    if geometry:
        _geometry(giver, taker)
    return 0


def _cosine(carried: "SteeringVector", native: "SteeringVector", layer: int) -> str:
    from torch.nn.functional import cosine_similarity

    if layer not in carried.directions or layer not in native.directions:
        return "none: no direction at this layer"
    return f"{float(cosine_similarity(carried.directions[layer], native.directions[layer], dim=0)):.3f}"


def _try(
    target: "LoadedModel",
    carried: "SteeringVector",
    native: "SteeringVector",
    layer: int,
    contrast: Any,
    *,
    nats: float,
    random: int,
) -> None:
    from steergraph.configs import load_config
    from steergraph.engine.local import LocalEngine
    from steergraph.vectors.compare.transfer import compare_directions, random_vector
    from steergraph.vectors.dose.measure import Doses

    candidates = {"native": native.model_copy(update={"name": "native"}), "projected": carried}
    candidates |= {f"random {k}": random_vector(native, layer, k) for k in range(random)}
    with LocalEngine(target) as engine:
        doses = Doses(engine, load_config("contrast/neutral")[3::4], tokens=16)
        trials = compare_directions(doses, candidates, layer, contrast, nats=nats)
    print("  direction, alpha, p95 KL, nats a token by which held-out texts of the domain gain over neutral ones")
    for trial in trials:
        print(f"    {trial.name:<10} {trial.alpha:8.3g} {trial.p95:6.3f} {trial.selectivity:+.4f}")


def _geometry(source: "LoadedModel", target: "LoadedModel") -> None:
    from steergraph.vectors.compare.geometry import compare
    from steergraph.vectors.extract.contrast import load_contrast, packaged_sets
    from steergraph.vectors.extract.first_use import ensure_vectors

    sets = [one for one in map(load_contrast, packaged_sets()) if one.language == "en"]
    first, second = (_middle(ensure_vectors(model, sets), model) for model in (source, target))
    print("cosines among the domains' vectors in the middle of both models (p: share of relabellings as alike)")
    for centred in (False, True):
        found = compare(first, second, centred=centred)
        measures = {"Spearman": found.spearman, "Pearson": found.pearson, "Procrustes disparity": found.procrustes}
        print(f"  {len(found.domains)} domains, {'without their common part' if centred else 'as extracted'}:")
        for name, one in measures.items():
            chance = f"chance {one.null_mean:.3f}, 1 in 20 reaches {one.null_extreme:.3f}"
            print(f"    {name:<21} {one.value:.3f}, {chance}, p {one.p:.3g}")


def _middle(library: "Library", model: "LoadedModel") -> dict[str, Any]:
    layer = model.info.n_layers // 2
    return {name: one.directions[layer] for name, one in library.items() if layer in one.directions}
