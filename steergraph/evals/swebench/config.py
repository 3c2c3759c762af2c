"""What a batch of SWE-bench instances is told: which instances, and a run's configuration with what a batch adds.

Imports neither a model nor a graph: a command line asks for its fields.
"""

from typing import Annotated

from pydantic import Field

from steergraph.agents.run_config import Amount, Command, Flag, RunConfig
from steergraph.base.records import Frozen

_BENCH: tuple[Command, ...] = ("bench",)


class BatchConfig(RunConfig):
    """How every sample of a batch is made. JSON-able; run.json keeps what can be told."""

    samples: Annotated[int, Field(ge=1), Flag(_BENCH, "best of N", "N")] = 1
    temperature: Annotated[Amount, Flag(_BENCH, "of samples by seed", "T")] = 0.7
    uid: str = ""
    """The batch's own, part of every thread's name."""
    max_batch: int = Field(default=8, ge=1)
    command: str = ""


class BatchRequest(Frozen):
    """Which samples are made, from what, and where they go. A later command may say it otherwise."""

    dataset: Annotated[str, Flag(_BENCH, "parquet, JSON, JSONL, or a name on the hub", "FILE|NAME")]
    split: Annotated[str, Flag(_BENCH, "of a dataset on the hub")] = "test"
    instances: Annotated[
        list[str] | None,
        Flag(_BENCH, "ids with commas, @FILE, a slice 0:20, /REGEX/, balanced:20; several narrow it down", "WHICH"),
    ] = None
    repos: Annotated[
        str | None, Flag(_BENCH, "clones and bundles, or a URL with {repo} (default: GitHub)", "DIR|URL")
    ] = Field(default=None, repr=False)
    presets: Annotated[str, Flag(_BENCH, "auto, baseline, static, dynamic, rag_*", "A,B")] = "auto"
    jobs: Annotated[int, Field(ge=1), Flag(_BENCH, "samples in flight", "N")] = 8
    run_id: Annotated[
        str | None, Flag(_BENCH, "the run's name; the same one goes on with it (default: the time)", "ID")
    ] = None
    runs: Annotated[str, Flag(_BENCH, "where runs are kept", "DIR")] = "runs"
    retry_errors: Annotated[bool, Flag(_BENCH, "do those anew that ended with an error")] = False
    ray: Annotated[
        str | None, Flag(_BENCH, "over a Ray cluster, a replica of the model in each actor", "ADDRESS|local")
    ] = None
    replicas: Annotated[
        Annotated[int, Field(ge=1)] | None, Flag(_BENCH, "with --ray (default: one a GPU or node)", "N")
    ] = None
