"""What training's tests share."""

import pytest

from steergraph.sandbox.run import Sandbox, SandboxUnavailable


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return Sandbox.detect(unsafe=True)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
