"""An engine by its model's name: in this process, or behind the address of a server.

Knows which is which. Imports what it needs when it is called.
"""

from typing import TYPE_CHECKING

from steergraph.engine.protocol import Named

if TYPE_CHECKING:
    from steergraph.engine.local import LocalEngine
    from steergraph.engine.remote.engine import RemoteEngine


def open_engine(model: str, library: Named | None = None) -> "LocalEngine | RemoteEngine":
    """The engine for a model's name. A context manager; leaving it closes it.

    Args:
        model: "pocket", a folder, a GGUF file, a Hugging Face id, or an address, `http://HOST:PORT/v1#MODEL`
            (docs/models.md).
        library: the vectors that it can switch on, by name; none by default.

    Returns:
        A LocalEngine, which holds the model in this process, or a RemoteEngine for an address.

    Raises:
        InputError: there is no such model or server.
    """
    from steergraph.engine.remote.address import is_address

    if is_address(model):
        from steergraph.engine.remote.engine import RemoteEngine

        return RemoteEngine(model, library)
    from steergraph.engine.local import LocalEngine

    return LocalEngine(model, library)
