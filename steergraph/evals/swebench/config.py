"""What a batch of SWE-bench instances is told: a run's configuration, and what a batch adds to it.

Imports neither a model nor a graph: a command line asks for its fields.
"""

from typing import Annotated

from pydantic import Field

from steergraph.agents.run_config import Amount, Flag, RunConfig


class BatchConfig(RunConfig):
    """What all samples of a batch have in common. JSON-able."""

    samples: Annotated[int, Field(ge=1), Flag(("bench",), "best of N", "N")] = 1
    temperature: Annotated[Amount, Flag(("bench",), "of samples by seed", "T")] = 0.7
    uid: str = ""
    """The batch's own, part of every thread's name."""
    max_batch: int = Field(default=8, ge=1)
    command: str = ""
