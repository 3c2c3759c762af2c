"""A reranker of one's own: a `sentence-transformers` cross-encoder or embedding model in a local folder.

Knows how such a model is loaded and asked. Knows nothing of retrieval's scores; the slot is `retrieval/rerank.py`.
Needs the extra `steergraph[rerank]`. Loads no code from the folder, and nothing over the network.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.retrieval.rerank import Reranker

_BATCH = 16


class CrossEncoderReranker:
    """Reads the issue and a passage together."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        pairs = [(query, passage) for passage in passages]
        return _numbers(self._model.predict(pairs, batch_size=_BATCH, show_progress_bar=False))


class EmbeddingReranker:
    """The cosine of the issue's and each passage's embedding."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        asked = self._model.encode_query([query], show_progress_bar=False, normalize_embeddings=True)
        read = self._model.encode_document(
            list(passages), batch_size=_BATCH, show_progress_bar=False, normalize_embeddings=True
        )
        return _numbers(read @ asked[0])


def load_reranker(path: str | Path) -> Reranker:
    """The model in the folder `path`: an embedding model where it has sentence-transformers' modules.json, else a
    cross-encoder with one output.

    Raises InputError where there is none, or the extra is not installed.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise InputError(f"{folder}: no model there: give the folder of a sentence-transformers model")
    try:
        from sentence_transformers import CrossEncoder, SentenceTransformer
    except ImportError as error:
        raise InputError("a reranker needs: pip install 'steergraph[rerank]'") from error
    try:
        if _is_embedding(folder):
            return EmbeddingReranker(SentenceTransformer(str(folder), local_files_only=True, trust_remote_code=False))
        model = CrossEncoder(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever is wrong with a folder of somebody else's, the user needs one line
        raise InputError(f"{folder}: cannot load the reranker: {' '.join(str(error).split())[:200]}") from error
    if model.num_labels != 1:
        raise InputError(f"{folder}: a reranker answers with one number, and this model with {model.num_labels}")
    return CrossEncoderReranker(model)


def _is_embedding(folder: Path) -> bool:
    """A cross-encoder saved by newer versions has a modules.json too; its configuration says what it is."""
    about = folder / "config_sentence_transformers.json"
    if about.is_file():
        try:
            kind = json.loads(about.read_text(encoding="utf-8")).get("model_type")
        except (ValueError, AttributeError):
            kind = None
        if kind is not None:
            return bool(kind == "SentenceTransformer")
    return (folder / "modules.json").is_file()


def _numbers(values: Any) -> list[float]:
    found = [float(value) for value in values]
    if not all(math.isfinite(value) for value in found):
        raise InputError("the reranker answered with something that is no number")
    return found
