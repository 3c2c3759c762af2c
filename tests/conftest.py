"""Shared fixtures, and which tests are left out for want of what. `data` is the folder of real data; tests that take it
carry the marker `realdata`, tests of a real model the marker `realmodel(NAME)`, by a name of the catalog of models."""

import os
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DATA = Path(os.environ.get("STEERGRAPH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


WANT = "for want of "


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "realdata" in item.keywords and not DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"{WANT}the data folder (STEERGRAPH_DATA)"))
        for marker in item.iter_markers("realmodel"):
            (name,) = marker.args
            if not _is_here(name):
                item.add_marker(pytest.mark.skip(reason=f"{WANT}the model {name} (steergraph models fetch {name})"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say last how many tests were left out, and for want of what."""
    reasons = (str(report.longrepr[-1]) for report in terminalreporter.stats.get("skipped", ()))
    missed = Counter(reason.partition(WANT)[2] for reason in reasons if WANT in reason)
    if missed:
        told = ", ".join(f"{count} {WANT}{what}" for what, count in missed.most_common())
        terminalreporter.write_line(f"left out: {told}")


@cache
def _is_here(name: str) -> bool:
    from steergraph.base.errors import InputError
    from steergraph.engine.loading.named.catalog import place_of

    try:
        return place_of(name) is not None
    except InputError:
        return False


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
