"""Where things are kept between runs."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """`cache_dir`, else STEERGRAPH_CACHE, else the user's cache folder of this system. May not exist yet."""
    if cache_dir is not None:
        return Path(cache_dir)
    return Path(own) if (own := os.environ.get("STEERGRAPH_CACHE")) else user_cache_path("steergraph")
