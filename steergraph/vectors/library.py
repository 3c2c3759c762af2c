"""Vectors by name: one folder of files, or what was made in this process."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from steergraph.base.errors import InputError
from steergraph.engine.steering.directions import unknown
from steergraph.vectors.store.files import file_name, load_vector, save_vector
from steergraph.vectors.vector import SteeringVector


class Library(Mapping[str, SteeringVector]):
    """Vectors by name. Read-only: a library with more in it is a new one."""

    def __init__(self, vectors: Mapping[str, SteeringVector] | None = None) -> None:
        self._vectors = dict(vectors or {})

    @classmethod
    def open(cls, folder: str | Path) -> "Library":
        """Every vector in `folder` (*.safetensors, not below), by the name it gives itself.

        Raises:
            InputError: there is no such folder, a file is damaged, or two vectors have one name.
        """
        if not Path(folder).is_dir():
            raise InputError(f"{folder}: no such folder of vectors")
        found: dict[str, SteeringVector] = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            vector = load_vector(path)
            if vector.name in found:
                raise InputError(f"{path}: a second vector called {vector.name!r} in this folder; move one of them")
            found[vector.name] = vector
        return cls(found)

    def save(self, folder: str | Path) -> list[Path]:
        """Write every vector into `folder`, each into a file of its name.

        Returns:
            The paths.

        Raises:
            InputError: one can't be written.
        """
        paths = []
        for name, vector in self._vectors.items():
            kept = vector if vector.name == name else vector.model_copy(update={"name": name})
            paths.append(save_vector(kept, Path(folder) / file_name(name)))
        return paths

    def __getitem__(self, name: str) -> SteeringVector:
        """Raises UnknownVector (a SteeringError and a KeyError) that names the nearest ones."""
        try:
            return self._vectors[name]
        except KeyError:
            raise unknown(name, self._vectors) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)
