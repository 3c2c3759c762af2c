"""Configuration as data: every YAML file beside this one, read by name.

Knows where the packaged YAML lives and how to report a broken file in one line. Knows nothing of what the files mean:
the floor that uses a file validates it.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from steergraph.base.errors import InputError, first_problem

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(InputError):
    """A configuration file is missing, is not YAML or has the wrong shape."""


class _Loader(yaml.SafeLoader):
    """YAML's own takes the last of two values under one key, without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> Any:
    """Parse `text` as YAML (safe loader). A key that stands twice is an error: one of the two would be lost.

    Raises ConfigError naming `where` and the line.
    """
    try:
        return yaml.load(text, _Loader)  # a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{where}{line}: not valid YAML: {said}") from error


def load_yaml(path: str | Path) -> Any:
    """Read a YAML file of the user's. Raises ConfigError where it cannot be read or parsed."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
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
    return parse_yaml(resource.read_text(encoding="utf-8-sig"), f"configs/{name}.yaml")


def load_validated(model: type[Model], name: str, path: str | Path | None = None) -> Model:
    """`configs/{name}.yaml` as a `model`; the top-level keys of a user's file at `path` replace the packaged ones.

    Raises ConfigError, in one line, where either cannot be read or together they are no such model.
    """
    packaged = f"configs/{name}.yaml"
    table = dict(load_config(name))
    if path is not None:
        own = load_yaml(path)
        if not isinstance(own, Mapping):
            raise ConfigError(f"{path}: not a mapping; its keys are those of {packaged}")
        table |= own
    return validated(model, table, str(path or packaged))


def validated(model: type[Model], table: Any, where: str) -> Model:
    """`table` as a `model`. Raises ConfigError, one line that begins with `where`."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_problem(error)}") from error
