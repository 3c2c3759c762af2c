"""The vectors that requests may name: the files of one folder, read once at the start.

Knows files and what fits the model. A request names a file and nothing is opened for it, so no request reaches a path.
"""

from dataclasses import dataclass
from pathlib import Path

from steergraph.base.errors import InputError
from steergraph.engine.protocol import ModelInfo
from steergraph.engine.steering.directions import SteeringError, check_fits
from steergraph.engine.wire.replies import OfferedVector
from steergraph.vectors.formats import detect, read_vectors
from steergraph.vectors.library import Library

KINDS = {".gguf": "gguf", ".safetensors": "steergraph"}


@dataclass(frozen=True)
class Sources:
    """A library whose names are file names."""

    library: Library

    @classmethod
    def load(cls, folder: str | Path | None, info: ModelInfo) -> "Sources":
        """Every `*.gguf` and `*.safetensors` of `folder`, not below it; none without a folder.

        Raises InputError (one line) where there is no such folder, a file is damaged or is of another model.
        """
        if folder is None:
            return cls(Library())
        root = Path(folder)
        if not root.is_dir():
            raise InputError(f"{folder}: no such folder of vectors")
        vectors = {}
        for path in sorted(path for path in root.iterdir() if path.suffix in KINDS and path.is_file()):
            if detect(path) != KINDS[path.suffix]:
                raise InputError(f"{path}: holds something else than its name says")
            (vector,) = read_vectors(path)
            check_fits(vector, info)
            vectors[path.name] = vector
        return cls(Library(vectors))

    @property
    def layers(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(sorted(vector.directions)) for name, vector in self.library.items()}

    def name(self, source: str) -> str:
        """`source` if it is one of the files. Raises SteeringError."""
        if source not in self.library:
            there = ", ".join(sorted(self.library)[:8]) or "none; start the server with --vectors"
            raise SteeringError(f"steering: there is no source {source[:80]!r}; there are {there}")
        return source

    def offered(self) -> tuple[OfferedVector, ...]:
        """What the list of models says of them."""
        return tuple(OfferedVector.of(source, vector) for source, vector in self.library.items())
