"""The grid of first tokens equals one steered forward a cell, and runs no block twice for nothing."""

import pytest
import torch
from engine_help import ask, logits_of, steer, tiny_library, tiny_loaded, tiny_vector
from tiny_models import ARCHITECTURES, LAYERS, OTHER_LAYOUTS

from steergraph.base.errors import InputError
from steergraph.engine.loading.layers import decoder_layers
from steergraph.engine.local import LocalEngine
from steergraph.engine.sweep import first_token_grid
from steergraph.vectors.library import SteeringError

PROMPTS = ([1, 40, 41, 42, 43, 44, 45, 46, 47], [1, 90, 91], [1])
ALPHAS = (-6.0, 0.0, 2.5)


@pytest.mark.parametrize("positions", ["all", "generated", (1, None), (-3, None), (0, 1)])
@pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
def test_the_grid_equals_one_forward_a_cell(architecture: str, positions: str) -> None:
    loaded = tiny_loaded(architecture)
    vector, layers = tiny_vector(loaded.info), range(LAYERS)
    grid = first_token_grid(
        loaded, PROMPTS, vector, layers, ALPHAS, unit="residual", positions=positions, max_tokens=60
    )
    for index, prompt in enumerate(PROMPTS):
        (plain,) = logits_of(loaded, [(prompt, [0], None)])
        assert (grid.unsteered[index] - plain[0].log_softmax(dim=-1)).abs().max() < 1e-4
        steerings = [steer(layer=k, alpha=a, unit="residual", positions=positions) for k in layers for a in ALPHAS]
        naive = []
        for one in steerings:
            try:
                naive.append(logits_of(loaded, [(prompt, [0], one)])[0][0].log_softmax(dim=-1))
            except SteeringError:  # a range without a token in this prompt
                naive.append(plain[0].log_softmax(dim=-1))
        cells = grid.logprobs[index].flatten(0, 1)
        assert (cells - torch.stack(naive)).abs().max() < 1e-4
    assert torch.allclose(grid.relative_doses, torch.tensor([[6.0, 0.0, 2.5]]).expand(LAYERS, -1))


def test_no_block_runs_for_a_cell_below_its_layer() -> None:
    loaded = tiny_loaded()
    seen: dict[int, list[tuple[int, ...]]] = {k: [] for k in range(LAYERS)}
    handles = [
        layer.mlp.register_forward_hook(lambda m, a, o, k=k: seen[k].append(tuple(o.shape[:2])))
        for k, layer in enumerate(decoder_layers(loaded.model))
    ]
    vector, width = tiny_vector(loaded.info), len(PROMPTS[0])
    first_token_grid(loaded, PROMPTS[:1], vector, range(LAYERS), ALPHAS, positions="all")
    assert seen == {
        0: [(1, width)],
        1: [(1, width), (3, width)],
        2: [(1, width), (6, width)],
        3: [(1, width), (9, width)],
    }
    for rows in seen.values():
        rows.clear()
    first_token_grid(loaded, PROMPTS[:1], vector, range(LAYERS), ALPHAS, positions="generated")
    before = [(1, width - 1), (1, 1)]
    assert seen == {0: before, 1: [*before, (3, 1)], 2: [*before, (6, 1)], 3: [*before, (9, 1)]}
    for handle in handles:
        handle.remove()


def test_the_model_is_left_as_it_was() -> None:
    loaded = tiny_loaded()
    vector = tiny_vector(loaded.info)
    layers = decoder_layers(loaded.model)
    failing = layers[3].mlp.register_forward_hook(lambda m, a, o: 1 / 0 if len(o) > 1 else None)
    with pytest.raises(ZeroDivisionError):
        first_token_grid(loaded, PROMPTS, vector, [0, 2], ALPHAS)
    failing.remove()
    assert not any("forward" in vars(layer) or layer._forward_hooks for layer in layers)


def test_what_cannot_be_swept_is_one_clear_error() -> None:
    loaded = tiny_loaded()
    vector = tiny_vector(loaded.info)
    for prompts, layers, alphas in (([], [0], [1.0]), ([[1]], [], [1.0]), ([[1]], [0], []), ([[]], [0], [1.0])):
        with pytest.raises(InputError):
            first_token_grid(loaded, prompts, vector, layers, alphas)
    for layer, alpha, positions, words in (
        (LAYERS, 1.0, "all", "out of range"),
        (-1, 1.0, "all", "layer"),
        (0, float("nan"), "all", "alpha"),
        (0, 1e39, "all", "beyond"),
        (0, 1.0, (3, 2), "no token"),
        (0, 1.0, "some", "positions"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            first_token_grid(loaded, PROMPTS, vector, [layer], [alpha], positions=positions)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="token id 99999"):
        first_token_grid(loaded, [[1, 99999]], vector, [0], ALPHAS)


def test_an_engine_sweeps_between_the_steps_of_what_it_generates() -> None:
    loaded = tiny_loaded()
    vector = tiny_vector(loaded.info)
    alone = first_token_grid(loaded, PROMPTS, vector, [1, 3], ALPHAS)
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        expected = engine.generate([ask(tokens=30, steering=steer())])[0].token_ids
        handle = engine.submit(ask(tokens=30, steering=steer()))
        swept = first_token_grid(engine, PROMPTS, vector, [1, 3], ALPHAS)
        assert handle.result(60).token_ids == expected
        with pytest.raises(InputError):
            first_token_grid(engine, [], vector, [1], ALPHAS)
    assert torch.equal(swept.logprobs, alone.logprobs)
