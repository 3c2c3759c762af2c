"""Shared fixtures. `data` is the folder of real data; tests that take it carry the marker `realdata`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA = Path(os.environ.get("STEERGRAPH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DATA.is_dir():
        return
    skip = pytest.mark.skip(reason="no data folder (STEERGRAPH_DATA)")
    for item in items:
        if "realdata" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA


@pytest.fixture
def sandbox_context() -> Callable[..., Any]:
    """A run's context with a test command; limits only where this machine has no sandbox."""
    from steergraph.agents.run_config import Context

    return lambda test, **fields: Context(test=test, unsafe_tests=True, **fields)


@pytest.fixture
def vector() -> Callable[[str], Any]:
    """A steering vector for the scripted engine's model."""
    import torch

    from steergraph.vectors.vector import SteeringVector

    def make(name: str) -> SteeringVector:
        return SteeringVector(
            name=name,
            directions={layer: torch.ones(8) for layer in range(12)},
            model="scripted",
            revision="0",
            hidden_size=8,
            method="mean_difference",
            contrast_hash="0" * 16,
            read_position="last_prompt_token",
            raw_norms=dict.fromkeys(range(12), 8**0.5),
            median_residual_norms=dict.fromkeys(range(12), 10.0),
        )

    return make
