"""The `steergraph` command: one module for each subcommand, and the live view."""

from steergraph.cli.app import main

__all__ = ["main"]
