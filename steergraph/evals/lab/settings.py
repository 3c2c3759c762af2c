"""An experiment's settings: a YAML file of configs/experiments, and a user's own laid over it."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import ValidationError

from steergraph.configs import ConfigError, load_config, load_yaml
from steergraph.vectors.steering import Frozen


class Settings(Frozen):
    """Base of every experiment's settings; a subclass names its file and its fields."""

    file: ClassVar[str]
    """The packaged file's name in configs/experiments, without suffix."""

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """The packaged settings with the keys of a user's file in their place. Raises ConfigError, in one line."""
        packaged = f"configs/experiments/{cls.file}.yaml"
        table = dict(load_config(f"experiments/{cls.file}"))
        if path is not None:
            own = load_yaml(path)
            if not isinstance(own, Mapping):
                raise ConfigError(f"{path}: an experiment's settings are a mapping, as {packaged}")
            table |= own
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{path or packaged}: {where}: {first['msg']}") from error
