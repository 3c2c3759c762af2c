"""Probes on disk, in the cache beside the model's vectors.

Knows safetensors and the cache's layout. What a probe is and how it is learned is `compare.probe`'s
business.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.engine.activations import READ_POSITIONS
from steergraph.engine.activations.sequences import Report
from steergraph.engine.loading.models import LoadedModel
from steergraph.vectors.compare.probe import POSITIONS, Condition, Probe, learn_probe
from steergraph.vectors.extract.contrast import ContrastSet
from steergraph.vectors.extract.first_use import model_folder
from steergraph.vectors.extract.methods import Method
from steergraph.vectors.store.files import file_name

log = logging.getLogger(__name__)


def ensure_probe(
    loaded: LoadedModel,
    sets: Sequence[ContrastSet],
    *,
    method: Method = "mean_difference",
    cache_dir: Path | None = None,
    report: Report = lambda count: None,
) -> Probe:
    """From the cache beside the model's vectors, or learned now and put there. A damaged entry is learned again."""
    made_of = json.dumps([[one.name, one.hash] for one in sets] + [method, list(POSITIONS)])
    key = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    path = model_folder(loaded.info, cache_dir) / "listeners" / file_name(key)
    if loaded.info.revision and path.is_file():
        try:
            return load_probe(path)
        except InputError as error:
            log.warning("%s; it is learned again", error)
    found = learn_probe(loaded, sets, method=method, report=report)
    if loaded.info.revision:
        try:
            save_probe(found, path)
        except InputError as error:
            log.warning("%s; the probe is learned again next time", error)
    return found


def save_probe(probe: Probe, path: Path) -> Path:
    """Write it, whole or not at all. Raises InputError."""
    facts = {
        "model": probe.model,
        "revision": probe.revision,
        "domains": probe.domains,
        "layer": probe.layer,
        "read": probe.read,
        "auroc": dict(probe.auroc),
        "conditions": [one.model_dump() for one in probe.conditions.values()],
    }
    tensors = {"units": probe.units, "middle": probe.middle, "slope": probe.slope}
    metadata = {"format": "steergraph.listener", "facts": json.dumps(facts)}
    return write_whole(
        path, save({k: v.float().contiguous() for k, v in tensors.items()}, metadata=metadata), parents=True
    )


def load_probe(path: Path) -> Probe:
    """Read one. Raises InputError (one line) where the file is damaged or something else."""
    try:
        with safe_open(str(path), framework="pt") as handle:
            header: dict[str, str] = handle.metadata() or {}
            if header.get("format") != "steergraph.listener":
                raise InputError(f"{path}: not a probe")
            tensors = {name: handle.get_tensor(name).clone() for name in ("units", "middle", "slope")}
        facts: dict[str, Any] = json.loads(header["facts"])
        conditions = [Condition.model_validate(one) for one in facts["conditions"]]
        found = Probe(
            model=facts["model"],
            revision=facts["revision"],
            domains=tuple(facts["domains"]),
            layer=int(facts["layer"]),
            read=next(known for known in READ_POSITIONS if known == facts["read"]),
            auroc={str(name): float(score) for name, score in facts["auroc"].items()},
            conditions={one.domain: one for one in conditions},
            **tensors,
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(f"{path}: damaged or not a probe") from error
    count = len(found.domains)
    if (
        found.units.dim() != 2
        or len(found.units) != count
        or found.middle.shape != (count,)
        or found.slope.shape != (count,)
    ):
        raise InputError(f"{path}: damaged: its tensors are not of its {count} domains")
    return found
