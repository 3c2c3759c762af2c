"""SteeredChat: the engine as a LangChain chat model."""

from steergraph.chat.model import SteeredChat

__all__ = ["SteeredChat"]
