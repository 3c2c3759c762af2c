"""Versions of what is installed, for every record that a run leaves."""

import platform
from collections.abc import Sequence
from importlib import metadata

UNKNOWN = "unknown"
"""Of a source tree that was never installed: it has no metadata."""


def version_of(distribution: str = "steergraph") -> str:
    """The installed version of a distribution, UNKNOWN where it has none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def versions(distributions: Sequence[str]) -> dict[str, str]:
    """Of each distribution, and of Python."""
    return {name: version_of(name) for name in distributions} | {"python": platform.python_version()}
