"""Where things are kept between runs."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from steergraph.base.errors import InputError

PACKAGE = Path(__file__).resolve().parents[1]


def check_outside_package(path: str | Path | None, allowed: bool | None = None) -> None:
    """Raise InputError where something is to be written below the package's own source and that is not `allowed`: in
    a clone `vectors/` and others are links into it, and what lands there looks like source. None: it never is."""
    if path is not None and not allowed and Path(path).resolve().is_relative_to(PACKAGE):
        raise InputError(
            f"{path}: this is steergraph's own source ({PACKAGE.name}/); take another folder"
            + ("" if allowed is None else ", as my-vectors/, or give --into-package")
        )


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """`cache_dir`, else STEERGRAPH_CACHE, else the user's cache folder of this system. May not exist yet."""
    if cache_dir is not None:
        return Path(cache_dir)
    return Path(own) if (own := os.environ.get("STEERGRAPH_CACHE")) else user_cache_path("steergraph")
