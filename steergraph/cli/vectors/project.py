"""`steergraph vectors project`: a vector of one model in another, and whether the two arrange their domains alike.

Knows the command line and how to print. Torch and models are imported only when it runs.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steergraph.base.errors import InputError

if TYPE_CHECKING:
    from steergraph.engine.loading.models import LoadedModel
    from steergraph.vectors.library import Library
    from steergraph.vectors.vector import SteeringVector


def add_command(commands: Any) -> None:
    """Register it on the `add_subparsers()` object of `steergraph vectors`."""
    project = commands.add_parser("project", help="carry domains' vectors from one model into another")
    project.add_argument("domains", nargs="+", metavar="NAME", help="contrast sets, as math or ./mine.yaml")
    project.add_argument("--source", required=True, metavar="MODEL", help="the model whose vectors are carried over")
    project.add_argument("--target", required=True, metavar="MODEL", help="the model they are carried into")
    project.add_argument(
        "--method", choices=("ridge", "procrustes", "low_rank"), default="ridge", help="default: ridge"
    )
    project.add_argument("--layer", type=int, metavar="K", help="of the target (default: the domain's cell)")
    project.add_argument("--try", dest="trial", action="store_true", help="steer with it, against native and random")
    project.add_argument("--nats", type=float, default=0.5, help="--try: KL each direction spends (default: 0.5)")
    project.add_argument("--random", type=int, default=5, metavar="N", help="--try: random directions (default: 5)")
    project.add_argument("--geometry", action="store_true", help="compare how both models arrange all packaged domains")
    project.add_argument("--out", metavar="DIR", help="where to write the vectors, at every layer")
    project.set_defaults(run=run_project)


def run_project(arguments: argparse.Namespace) -> int:
    """Learn the maps, carry the vectors over, print how good they are."""
    from steergraph.engine.loading.models import load_model
    from steergraph.vectors.compare.projection import project_vector
    from steergraph.vectors.compare.transfer import learn_maps, packaged_texts, read_both
    from steergraph.vectors.dose.cells import best_cell
    from steergraph.vectors.extract.contrast import load_contrast
    from steergraph.vectors.extract.first_use import ensure_vectors
    from steergraph.vectors.store.files import file_name, save_vector

    sets = {one.name: one for one in map(load_contrast, arguments.domains)}
    if arguments.random < 0:
        raise InputError(f"--random {arguments.random}: 0 or more")
    source, target = load_model(arguments.source), load_model(arguments.target)
    natives = [ensure_vectors(model, sets.values()) for model in (source, target)]
    layers = range(target.info.n_layers)
    if arguments.layer is not None and arguments.layer not in layers:
        raise InputError(f"--layer {arguments.layer}: {target.info.name} has layers 0 to {target.info.n_layers - 1}")
    texts = packaged_texts(sorted({one.language for one in sets.values()}))
    activations = read_both(source, target, texts)
    print(f"{source.info.name} to {target.info.name}, {arguments.method}, {len(texts.texts)} texts read by both")
    print("vector, its layer there and here, held-out R2 of the map, cosine with the target's own vector")
    for name, contrast in sets.items():
        maps, scores = learn_maps(activations, texts, contrast.domain, layers, arguments.method)
        native = natives[1][name]
        carried = project_vector(
            natives[0][name],
            maps,
            target.info,
            median_residual_norms=native.median_residual_norms,
            held_out_r2=scores,
        )
        layer = best_cell(target.info, name).layer if arguments.layer is None else arguments.layer
        cosine = _cosine(carried, native, layer)
        print(f"  {name}: {maps[layer][0]} to {layer}, R2 {scores[layer]:.3f}, cosine {cosine}")
        if arguments.trial:
            _try(target, carried, native, layer, contrast, arguments)
        if arguments.out:
            print(f"  wrote {save_vector(carried, Path(arguments.out) / file_name(name))}")
    if arguments.geometry:
        _geometry(source, target)
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
    arguments: argparse.Namespace,
) -> None:
    from steergraph.configs import load_config
    from steergraph.engine.local import LocalEngine
    from steergraph.vectors.compare.transfer import compare_directions, random_vector
    from steergraph.vectors.dose.measure import Doses

    candidates = {"native": native.model_copy(update={"name": "native"}), "projected": carried}
    candidates |= {f"random {k}": random_vector(native, layer, k) for k in range(arguments.random)}
    with LocalEngine(target) as engine:
        doses = Doses(engine, load_config("contrast/neutral")[3::4], tokens=16)
        trials = compare_directions(doses, candidates, layer, contrast, nats=arguments.nats)
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
