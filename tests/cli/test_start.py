"""What a command imports before it has to, and how the words of a command line are read."""

from steergraph.engine.loading.pocket import open_pocket  # noqa: F401
