"""An engine by its model's name: in this process, or behind the address of a server.

Knows which is which. Imports what it needs when it is called.
"""

from typing import TYPE_CHECKING

from steergraph.engine.protocol import Named

if TYPE_CHECKING:
    from steergraph.engine.local import LocalEngine
    from steergraph.engine.remote.engine import RemoteEngine


def open_engine(model: str, library: Named | None = None) -> "LocalEngine | RemoteEngine":
    """The engine for "pocket", a folder, a Hugging Face id, or an address, `http://HOST:PORT/v1#MODEL`.

    docs/engines.md says how an address is written. A context manager; leaving it closes it. Raises InputError (one
    line) where there is no such model or server.
    """
    from steergraph.engine.remote.address import is_address

    if is_address(model):
        from steergraph.engine.remote.engine import RemoteEngine

        return RemoteEngine(model, library)
    from steergraph.engine.local import LocalEngine

    return LocalEngine(model, library)
