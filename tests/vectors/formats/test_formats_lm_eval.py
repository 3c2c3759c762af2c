"""A file for lm-eval does there what our engine does here: written down as lm-eval does it, and by lm-eval itself."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_help import MEDIAN, tiny_library, tiny_loaded
from tiny_models import ARCHITECTURES, OTHER_LAYOUTS, tiny_model

from steergraph.engine.activations.sequences import block_outputs
from steergraph.engine.loading.layers import decoder_layers
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import ScoreRequest
from steergraph.engine.steering.records import Component, Steering, Unit
from steergraph.vectors.formats import read_vectors, steering_of, write_vector
from steergraph.vectors.library import Library

IDS = (1, 40, 41, 42, 200, 5, 120, 64, 12)
LAYER = 1
States = dict[int, torch.Tensor]
DOSES: tuple[tuple[float, Unit], ...] = ((6.0, "unit_vector"), (-1.25, "raw"), (0.5, "residual"))


def hookpoint_of(model: Any) -> str:
    """lm-eval's name of the list of blocks, as "layers" or "h"."""
    blocks = decoder_layers(model)
    return next(name for name, module in model.base_model.named_modules() if module is blocks)


def engine_states(loaded: LoadedModel, library: Library, steering: Steering | None) -> States:
    """Every block's output [tokens, hidden] as the engine runs the row."""
    with LocalEngine(loaded, library) as engine, block_outputs(loaded.model) as seen:
        engine.score([ScoreRequest(token_ids=IDS[:-1], continuation=IDS[-1:], steering=steering)])
        return {layer: output[0].clone() for layer, output in seen.items()}


def plain_states(loaded: LoadedModel) -> States:
    with torch.no_grad(), block_outputs(loaded.model) as seen:
        loaded.model(torch.tensor([IDS]))
        return {layer: output[0].clone() for layer, output in seen.items()}


@contextmanager
def added(model: Any, content: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """What lm-eval does with an `add`: vector times coefficient, added to the output of the module of that name."""

    def hook_of(delta: torch.Tensor) -> Callable[..., Any]:
        def hook(_module: Any, _arguments: Any, output: Any) -> Any:
            return (output[0] + delta, *output[1:]) if isinstance(output, tuple) else output + delta

        return hook

    modules = dict(model.base_model.named_modules())
    handles = []
    for hookpoint, entry in content.items():
        assert entry["action"] == "add"
        assert entry.get("bias") is None
        delta = entry["steering_vector"] * float(entry["steering_coefficient"])
        handles.append(modules[hookpoint].register_forward_hook(hook_of(delta)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check(steered: States, plain: States, other_steered: States, other_plain: States) -> None:
    for layer in plain:
        ours, theirs = (steered[layer] - plain[layer])[-len(IDS) :], other_steered[layer] - other_plain[layer]
        ours, theirs = ours[: len(IDS) - 1], theirs[: len(IDS) - 1]  # scoring needs no forward of the last token
        # Above the edited block the states are large, and their last digits follow the shape of the batch.
        size = max(1.0, float(other_plain[layer].abs().max())) if layer > LAYER else 1.0
        assert float((ours - theirs).abs().max()) <= 1e-5 * size, layer
        assert bool(theirs.any()) == (layer >= LAYER)


@pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
@pytest.mark.parametrize(("alpha", "unit"), DOSES)
def test_the_file_changes_the_states_as_the_engine_does(
    tmp_path: Path, architecture: str, alpha: float, unit: Unit
) -> None:
    loaded = tiny_loaded(architecture)
    library = tiny_library(loaded.info)
    steering = Steering(components=(Component(vector="v", layer=LAYER, alpha=alpha, unit=unit),))
    path = write_vector(
        library["v"],
        tmp_path / "v.pt",
        layers=(LAYER,),
        alpha=alpha,
        unit=unit,
        hookpoint=hookpoint_of(loaded.model),
    )
    plain = engine_states(loaded, library, None)
    steered = engine_states(loaded, library, steering)
    bare = plain_states(loaded)
    with added(loaded.model, torch.load(path, weights_only=True)):
        check(steered, plain, plain_states(loaded), bare)
    # And read again, the file asks our engine for the same.
    (back,) = read_vectors(path, model=loaded.info.name)
    again = engine_states(loaded, Library({back.name: back}), steering_of(back))
    assert all(torch.allclose(again[layer], steered[layer], atol=1e-5, rtol=1e-5) for layer in again)


@pytest.mark.parametrize("format", ["gguf", "cast", "aisteer360", "easysteer", "neuronpedia"])
def test_every_other_format_asks_the_engine_for_the_same(tmp_path: Path, format: str) -> None:
    loaded = tiny_loaded()
    library = tiny_library(loaded.info)
    suffix = {"gguf": ".gguf", "cast": ".svec", "aisteer360": ".svec"}.get(format, ".json")
    path = write_vector(library["v"], tmp_path / f"v{suffix}", format, layers=(LAYER,), alpha=0.5, unit="residual")
    (back,) = read_vectors(path, model=loaded.info.name)
    asked = Steering(components=(Component(vector="v", layer=LAYER, alpha=0.5 * MEDIAN),))
    there = engine_states(loaded, Library({back.name: back}), steering_of(back))
    here = engine_states(loaded, library, asked)
    assert all(torch.allclose(there[layer], here[layer], atol=1e-5, rtol=1e-5) for layer in here)


@pytest.mark.parametrize("architecture", ["qwen3", "lfm2", "gpt2"])
def test_lm_eval_itself_loads_the_file_and_does_the_same(tmp_path: Path, architecture: str) -> None:
    steered_models = pytest.importorskip("lm_eval.models.hf_steered", reason="lm-eval is not installed")
    loaded = tiny_loaded(architecture)
    library = tiny_library(loaded.info)
    hookpoint = hookpoint_of(loaded.model)
    path = write_vector(library["v"], tmp_path / "v.pt", layers=(LAYER,), alpha=6.0, hookpoint=hookpoint)
    theirs = steered_models.SteeredModel(
        pretrained=str(tiny_model(architecture)), steer_path=str(path), device="cpu", dtype="float32"
    )
    with torch.no_grad(), block_outputs(theirs.model) as seen:
        theirs.model(torch.tensor([IDS]))
        bare = {layer: output[0].clone() for layer, output in seen.items()}
    # Hooks run in the order they were made: ours have to be made inside lm-eval's to see what it did.
    with steered_models.steer(theirs.model, theirs.hook_to_steer), block_outputs(theirs.model) as seen, torch.no_grad():
        theirs.model(torch.tensor([IDS]))
        there = {layer: output[0].clone() for layer, output in seen.items()}
    steering = Steering(components=(Component(vector="v", layer=LAYER, alpha=6.0),))
    check(engine_states(loaded, library, steering), engine_states(loaded, library, None), there, bare)
    # Their own forward opens those hooks; its logits are not the unsteered ones.
    logits = theirs._model_call(torch.tensor([IDS]))
    with torch.no_grad():
        assert not torch.allclose(logits, theirs.model(torch.tensor([IDS])).logits)
