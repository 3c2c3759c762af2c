"""steergraph: a LangGraph of specialists for small language models, each with its own activation steering.

    from steergraph import build_graph

    graph = build_graph()
    outcome = graph.invoke({"problem": "mean([]) raises ZeroDivisionError", "repo": "path/to/repository"})

The public names are imported on first use, so that `import steergraph` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steergraph.agents.graph import build_graph as build_graph
    from steergraph.agents.policy import Decision as Decision
    from steergraph.agents.policy import Policy as Policy
    from steergraph.agents.run_config import Context as Context
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
    from steergraph.engine.protocol import Engine as Engine
    from steergraph.engine.protocol import Message as Message
    from steergraph.engine.protocol import Request as Request
    from steergraph.engine.protocol import Sampling as Sampling
    from steergraph.engine.protocol import ScoreRequest as ScoreRequest
    from steergraph.engine.protocol import Scores as Scores
    from steergraph.engine.remote.engine import RemoteEngine as RemoteEngine
    from steergraph.engine.scripted import ScriptedEngine as ScriptedEngine
    from steergraph.engine.steering.directions import SteeringError as SteeringError
    from steergraph.engine.steering.records import Component as Component
    from steergraph.engine.steering.records import Receipt as Receipt
    from steergraph.engine.steering.records import Steering as Steering
    from steergraph.retrieval.retriever import BM25Retriever as BM25Retriever
    from steergraph.retrieval.retriever import Retrieved as Retrieved
    from steergraph.retrieval.retriever import Retriever as Retriever
    from steergraph.vectors.extract.contrast import ContrastSet as ContrastSet
    from steergraph.vectors.extract.contrast import load_contrast as load_contrast
    from steergraph.vectors.extract.first_use import ensure_vectors as ensure_vectors
    from steergraph.vectors.library import Library as Library
    from steergraph.vectors.store.files import load_vector as load_vector
    from steergraph.vectors.store.files import save_vector as save_vector
    from steergraph.vectors.vector import SteeringVector as SteeringVector
    from steergraph.vectors.vector import make_vector as make_vector

_WHERE = {
    "Context": "agents.run_config",
    "build_graph": "agents.graph",
    "Decision": "agents.policy",
    "Policy": "agents.policy",
    "Roster": "agents.specialists",
    "Specialist": "agents.specialists",
    "Outcome": "agents.state",
    "Task": "agents.state",
    "InputError": "base.errors",
    "SteeredChat": "chat.model",
    "ConfigError": "configs",
    "LocalEngine": "engine.local",
    "open_engine": "engine.opening",
    "Completion": "engine.protocol",
    "Engine": "engine.protocol",
    "Message": "engine.protocol",
    "Request": "engine.protocol",
    "Sampling": "engine.protocol",
    "ScoreRequest": "engine.protocol",
    "Scores": "engine.protocol",
    "RemoteEngine": "engine.remote.engine",
    "ScriptedEngine": "engine.scripted",
    "SteeringError": "engine.steering.directions",
    "Component": "engine.steering.records",
    "Receipt": "engine.steering.records",
    "Steering": "engine.steering.records",
    "BM25Retriever": "retrieval.retriever",
    "Retrieved": "retrieval.retriever",
    "Retriever": "retrieval.retriever",
    "ContrastSet": "vectors.extract.contrast",
    "load_contrast": "vectors.extract.contrast",
    "ensure_vectors": "vectors.extract.first_use",
    "Library": "vectors.library",
    "load_vector": "vectors.store.files",
    "save_vector": "vectors.store.files",
    "make_vector": "vectors.vector",
    "SteeringVector": "vectors.vector",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'steergraph' has no attribute {name!r}")
    return getattr(import_module(f"steergraph.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
