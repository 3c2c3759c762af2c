"""A run's samples in the trajectory layout of mini-swe-agent, so that its inspector and others' tools read them.

Knows that layout, version `mini-swe-agent-1.1` (docs/usage/output_files.md of SWE-agent/mini-swe-agent at a83fcae): an
object of `info`, `messages` and `trajectory_format`, in INSTANCE/INSTANCE.traj.json, beside `preds.json`. Its agent
keeps one conversation; here every specialist has a prompt of its own, so messages are the prompts as they were sent,
each followed by its answer. What the layout has no field for stands in `extra`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steergraph.agents.state import PATCHED
from steergraph.base.files import write_whole
from steergraph.base.versions import version_of
from steergraph.evals.reports.measure import chosen
from steergraph.evals.reports.pages import file_name
from steergraph.evals.reports.read import Entry, Variant
from steergraph.evals.reports.samples import Sample, read_samples

FORMAT = "mini-swe-agent-1.1"
_SUBMITTED: tuple[str, ...] = (*PATCHED, "prediction")
_EXITS = {**dict.fromkeys(_SUBMITTED, "Submitted"), "out_of_budget": "LimitsExceeded"}
"""Its names for ours; others keep their own, as its own exceptions do."""


def export(variants: Sequence[Variant], folder: Path, notes: list[str]) -> int:
    """Write VARIANT/INSTANCE/INSTANCE.traj.json and VARIANT/preds.json for each variant. Returns how many trajectories.

    The trajectory is that of the sample whose patch it is; without one, the first sample's.
    """
    written = 0
    for variant in variants:
        own = folder / _plain(variant.label)
        for name, entry in variant.entries.items():
            place = own / _plain(name)
            place.mkdir(parents=True, exist_ok=True)
            text = json.dumps(trajectory(entry, chosen(read_samples(entry, notes), entry)), indent=2)
            write_whole(place / f"{place.name}.traj.json", text + "\n")
            written += 1
        rows = {
            name: {"model_name_or_path": entry.model, "instance_id": name, "model_patch": entry.patch}
            for name, entry in variant.entries.items()
        }
        write_whole(own / "preds.json", json.dumps(rows, indent=2) + "\n")
    return written


def trajectory(entry: Entry, sample: Sample | None) -> dict[str, Any]:
    """One sample as a trajectory. Costs are 0: nothing was billed."""
    steps = sample.steps if sample else ()
    status = _EXITS.get(entry.status, entry.status)
    provenance = sample.provenance if sample else {}
    messages: list[dict[str, Any]] = []
    for number, step in enumerate(steps):
        messages += [{**message, "extra": {"step": number, "specialist": step.specialist}} for message in step.prompt]
        extra = {
            "actions": [],
            "cost": 0.0,
            "step": number,
            **step.model_dump(mode="json", exclude={"text", "prompt"}),
        }
        messages.append({"role": "assistant", "content": step.text, "extra": extra})
    end = {"exit_status": status, "submission": entry.patch}
    messages.append({"role": "exit", "content": entry.error or entry.patch, "extra": end})
    return {
        "info": {
            "model_stats": {"instance_cost": 0.0, "api_calls": len(steps)},
            "config": {
                "agent": {
                    "preset": provenance.get("preset"),
                    "axes": provenance.get("axes"),
                    "seed": provenance.get("seed"),
                },
                "agent_type": "steergraph.agents.graph",
                "model": {"model_name": entry.model, **(provenance.get("model") or {})},
                "model_type": "steergraph.engine",
                "environment": {},
                "environment_type": "steergraph.sandbox.run",
            },
            "mini_version": f"steergraph {version_of()}",
            "exit_status": status,
            "submission": entry.patch,
        },
        "messages": messages,
        "trajectory_format": FORMAT,
        "instance_id": entry.instance_id,
    }


def _plain(name: str) -> str:
    return file_name(name).removesuffix(".html")
