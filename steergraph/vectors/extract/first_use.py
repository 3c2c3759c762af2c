"""Vectors on first use: taken from the user's cache folder, or made and put there.

Knows the cache's layout: one folder for each model and revision, one file for each vector, named after it, the hash of
its contrast set and, where it is not the mean difference, its method. A changed model or set is another file; nothing
is ever out of date. Safe with several processes: files appear whole, and whoever comes last replaces a file by its
equal.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from steergraph.base.errors import InputError
from steergraph.base.folders import cache_folder
from steergraph.engine.activations.sequences import Activations
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.protocol import ModelInfo
from steergraph.engine.steering.directions import check_fits
from steergraph.vectors.extract.contrast import ContrastSet, is_path, load_contrast
from steergraph.vectors.extract.difference import METHOD, read_side
from steergraph.vectors.extract.difference import extract as extract
from steergraph.vectors.extract.methods import Method
from steergraph.vectors.library import Library
from steergraph.vectors.store.files import file_name, load_vector, save_vector
from steergraph.vectors.vector import SteeringVector

Progress = Callable[[str, int, int], None]
"""Called with a vector's name, how many of its texts have been read and how many there are. Once, with both equal,
where the cache has it."""

log = logging.getLogger(__name__)


def model_folder(info: ModelInfo, cache_dir: Path | None = None) -> Path:
    """Where the vectors of this model at this revision are kept."""
    return cache_folder(cache_dir) / "vectors" / f"{quote(info.name, safe='')[:120]}@{quote(info.revision, safe='')}"


def cached_vectors(model: str | None = None, cache_dir: Path | None = None) -> Iterator[tuple[Path, SteeringVector]]:
    """Every vector in the cache, or those of `model` (any revision). Damaged files are skipped with a warning."""
    for path in sorted((cache_folder(cache_dir) / "vectors").glob("*/*.safetensors")):
        try:
            vector = load_vector(path)
        except InputError as error:
            log.warning("%s", error)
            continue
        if model is None or vector.model.lower() == model.lower():
            yield path, vector


def ensure_vectors(
    loaded: LoadedModel,
    domains: Mapping[str, str | Path | None] | Iterable[str | Path | ContrastSet],
    *,
    method: Method = METHOD,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    batch_size: int = 8,
) -> Library:
    """A library with one vector for each of `domains`, each from the cache or made now.

    A damaged cache entry is made anew; a cache that can't be written costs a warning.

    Args:
        loaded: the model, as `LocalEngine.loaded` has it.
        domains: names of packaged contrast sets, paths of a user's own and sets themselves, or a mapping from vector
            name to the path of its set (None: the packaged set of that name).
        method: how a direction is made of two sides of texts (docs/vectors.md).
        cache_dir: the cache; the user's own by default.
        progress: called with a vector's name, texts read and texts there are.
        batch_size: texts that go through the model together.

    Returns:
        The vectors by name; `LocalEngine.add_vectors` takes them.

    Raises:
        InputError: two sets have one name, or a set is bad (ContrastError): told before anything is extracted.
    """
    sets: dict[str, ContrastSet] = {}
    for name, contrast in _sets(domains):
        if name in sets and sets[name] != contrast:
            raise InputError(f"two contrast sets are called {name!r}: give one of them another name")
        sets[name] = contrast
    neutrals: dict[tuple[object, ...], Activations] = {}
    vectors: dict[str, SteeringVector] = {}
    for name, contrast in sets.items():
        path = _path(loaded.info, name, contrast.hash, method, cache_dir)
        vector = _cached(path, name, contrast, method, loaded.info)
        if vector is None:
            vector = _make(loaded, name, contrast, method, neutrals, batch_size, progress)
            keep(vector, loaded.info, cache_dir)
        elif progress is not None:
            total = len(contrast.positives) + len(contrast.neutrals)
            progress(name, total, total)
        vectors[name] = vector
    return Library(vectors)


def _path(info: ModelInfo, name: str, contrast_hash: str, method: str, cache_dir: Path | None) -> Path:
    suffix = "" if method == METHOD else f"-{method}"
    return model_folder(info, cache_dir) / file_name(f"{name}-{contrast_hash}{suffix}")


def _sets(
    domains: Mapping[str, str | Path | None] | Iterable[str | Path | ContrastSet],
) -> Iterator[tuple[str, ContrastSet]]:
    if isinstance(domains, Mapping):
        for name, path in domains.items():
            yield name, load_contrast(Path(path) if path else name)
        return
    for named in domains:
        if isinstance(named, ContrastSet):
            yield named.name, named
            continue
        contrast = load_contrast(named)
        yield (contrast.name if is_path(named) else str(named)), contrast


def _cached(path: Path, name: str, contrast: ContrastSet, method: Method, info: ModelInfo) -> SteeringVector | None:
    """The cache's vector where it has a whole and matching one."""
    if not info.revision or not path.exists():
        return None
    try:
        vector = load_vector(path)
        check_fits(vector, info)
    except InputError as error:
        log.warning("%s; it is made again", error)
        return None
    made = (vector.name, vector.contrast_hash, vector.method, vector.read_position, vector.revision)
    wanted = (name, contrast.hash, method, contrast.read, info.revision)
    return vector if made == wanted else None


def _make(
    loaded: LoadedModel,
    name: str,
    contrast: ContrastSet,
    method: Method,
    neutrals: dict[tuple[object, ...], Activations],
    batch_size: int,
    progress: Progress | None,
) -> SteeringVector:
    """Extract, with the neutral side read once for all sets that share it."""
    side = (contrast.read, contrast.marker, contrast.question, contrast.neutral_system, contrast.neutrals)
    total = len(contrast.positives) + len(contrast.neutrals)
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(name, done, total)

    if side in neutrals:
        done = len(contrast.neutrals)
    else:
        neutrals[side] = read_side(loaded, contrast, "neutrals", batch_size, report)
    return extract(
        loaded, contrast, name=name, method=method, batch_size=batch_size, report=report, neutral=neutrals[side]
    )


def keep(vector: SteeringVector, info: ModelInfo, cache_dir: Path | None = None) -> None:
    """Put a vector that was made for a model into the cache, in the place of the one that is there. A cache that can't
    be written costs a warning."""
    path = _path(info, vector.name, vector.contrast_hash, vector.method, cache_dir)
    if not info.revision:  # nothing says which weights these are: another model could have the same name
        return
    try:
        save_vector(vector, path)
    except InputError as error:
        log.warning("%s; the vector is made again next time", error)
