"""Shared fixtures. `data` is the folder of real data; tests that take it carry the marker `realdata`."""

import os
from pathlib import Path

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
