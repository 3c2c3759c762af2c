"""A model behind an OpenAI-compatible server, as an `Engine`: see `engine.RemoteEngine` and docs/engines.md."""
