"""Configuration as data: every YAML file beside this one, read by name.

Knows where the packaged YAML lives and how to report a broken file in one line. Knows nothing of what the files mean:
the floor that uses a file validates it.
"""

import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml


class InputError(ValueError):
    """What the user gave cannot be used. The message is one line: what, where, what to do. Commands exit with 2."""


class ConfigError(InputError):
    """A configuration file is missing, is not YAML or has the wrong shape."""


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """`cache_dir`, else STEERGRAPH_CACHE, else XDG_CACHE_HOME/steergraph, else ~/.cache/steergraph. May not exist."""
    if cache_dir is not None:
        return Path(cache_dir)
    if own := os.environ.get("STEERGRAPH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steergraph"


def parse_yaml(text: str, where: str) -> Any:
    """Parse `text` as YAML (safe loader). Raises ConfigError naming `where` and the line."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{where}{line}: not valid YAML: {said}") from error


def load_yaml(path: str | Path) -> Any:
    """Read a YAML file of the user's. Raises ConfigError where it cannot be read or parsed."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read it: {error}") from error
    return parse_yaml(text, str(path))


@cache
def load_config(name: str) -> Any:
    """Read `steergraph/configs/{name}.yaml`; `name` may have folders, as in "contrast/bug_analysis".

    The result is shared: treat it as read-only. Raises ConfigError where there is no such file.
    """
    resource = files("steergraph.configs").joinpath(f"{name}.yaml")
    if not resource.is_file():
        raise ConfigError(f"no configuration called {name!r}")
    return parse_yaml(resource.read_text(encoding="utf-8"), f"configs/{name}.yaml")
