"""steergraph: a LangGraph of specialists for small language models, each with its own activation steering.

    from steergraph import build_graph

    graph = build_graph()
    outcome = graph.invoke({"problem": "mean([]) raises ZeroDivisionError", "repo": "path/to/repository"})

The public names are imported on first use, so that `import steergraph` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steergraph.agents.context import Context as Context
    from steergraph.agents.graph import build_graph as build_graph
    from steergraph.agents.policy import Decision as Decision
    from steergraph.agents.policy import Policy as Policy
    from steergraph.agents.specialists import Roster as Roster
    from steergraph.agents.specialists import Specialist as Specialist
    from steergraph.agents.state import Outcome as Outcome
    from steergraph.agents.state import Task as Task
    from steergraph.base.errors import InputError as InputError
    from steergraph.chat.model import SteeredChat as SteeredChat
    from steergraph.configs import ConfigError as ConfigError
    from steergraph.engine.local import LocalEngine as LocalEngine
    from steergraph.engine.opening import open_engine as open_engine
    from steergraph.engine.protocol import Completion as Completion
    from steergraph.engine.protocol import Message as Message
    from steergraph.engine.protocol import Request as Request
    from steergraph.engine.protocol import Sampling as Sampling
    from steergraph.engine.remote.engine import RemoteEngine as RemoteEngine
    from steergraph.engine.steering.records import Component as Component
    from steergraph.engine.steering.records import Receipt as Receipt
    from steergraph.engine.steering.records import Steering as Steering
    from steergraph.vectors.library import Library as Library
    from steergraph.vectors.store.files import load_vector as load_vector
    from steergraph.vectors.store.files import save_vector as save_vector
    from steergraph.vectors.vector import SteeringVector as SteeringVector
    from steergraph.vectors.vector import make_vector as make_vector

_WHERE = {
    "Context": "agents.context",
    "build_graph": "agents.graph",
    "Decision": "agents.policy",
    "Policy": "agents.policy",
    "Roster": "agents.specialists",
    "Specialist": "agents.specialists",
    "Outcome": "agents.state",
    "Task": "agents.state",
    "SteeredChat": "chat.model",
    "ConfigError": "configs",
    "InputError": "base.errors",
    "LocalEngine": "engine.local",
    "Completion": "engine.protocol",
    "Message": "engine.protocol",
    "Request": "engine.protocol",
    "Sampling": "engine.protocol",
    "RemoteEngine": "engine.remote.engine",
    "open_engine": "engine.opening",
    "Library": "vectors.library",
    "load_vector": "vectors.store.files",
    "save_vector": "vectors.store.files",
    "SteeringVector": "vectors.vector",
    "make_vector": "vectors.vector",
    "Component": "engine.steering.records",
    "Receipt": "engine.steering.records",
    "Steering": "engine.steering.records",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'steergraph' has no attribute {name!r}")
    return getattr(import_module(f"steergraph.{_WHERE[name]}"), name)
