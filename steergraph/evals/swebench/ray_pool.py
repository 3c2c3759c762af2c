"""The same samples over a Ray cluster: a model replica in each actor, samples as its tasks (the extra `ray`).

Knows Ray, and that workers and nodes die. A sample whose worker died is made by another one: from its checkpoints,
where the run's folder (or its database) is in reach there, else anew. What crosses between processes is JSON.
"""

import json
import os
import socket
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from steergraph.agents.driving import make_engine
from steergraph.base.errors import InputError
from steergraph.base.files import read_record
from steergraph.base.text import printable
from steergraph.engine.protocol import ModelInfo
from steergraph.evals.swebench.config import BatchConfig
from steergraph.evals.swebench.worker import Done, RunStopped, Unit, Worker

DEATHS = 4
"""A sample whose worker died so often is given up: it may be what kills them."""
_FAILED_STARTS = 3
_KNOCK_S = 10.0
_START_S = 900.0


class Replica:
    """Lives in an actor: one model, and the samples that are sent to it."""

    def __init__(self, config: str, state: str | None, folder: str) -> None:
        parsed = BatchConfig.model_validate_json(config)
        self._worker = Worker(parsed, make_engine(parsed, parsed.max_batch), state)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._root = Path(folder)
        # On another machine the run's folder may not be there, or be another one of the same name.
        if (read_record(self._root / "run.json") or {}).get("uid") != parsed.uid:
            self._temporary = tempfile.TemporaryDirectory(prefix="steergraph-ray-")
            self._root = Path(self._temporary.name)

    def ready(self) -> str:
        return json.dumps({"pid": os.getpid(), "info": self._worker.engine.info.model_dump(mode="json")})

    def make(self, unit: str, repo: str | None) -> str:
        """One sample. `repo` is beside the unit because it may hold credentials, which a unit's dump shall not."""
        parsed = Unit.model_validate_json(unit).model_copy(update={"repo": repo})
        folder = self._root / "instances" / parsed.preset / parsed.instance_id / f"sample-{parsed.sample}"
        try:
            done = self._worker.run(parsed, folder)
        except InputError as error:
            return json.dumps({"stopped": str(error)})
        trace: list[Any] = []
        if self._temporary is not None and (folder / "trace.jsonl").exists():
            trace = [json.loads(line) for line in (folder / "trace.jsonl").read_text(encoding="utf-8").splitlines()]
            self._worker.forget(parsed, folder)
        return json.dumps({"outcome": done.outcome, "trace": trace})


class RayPool:
    """`results` as the local pool's. A context manager: leaving it ends the replicas, and a cluster it started."""

    def __init__(
        self, address: str, config: BatchConfig, folder: Path, *, state: str | None, jobs: int, replicas: int | None
    ) -> None:
        """`address` is `local` or a cluster's; `replicas` is by default one for each GPU, or else for each node."""
        try:
            import ray
        except ImportError as error:
            raise InputError("--ray needs: pip install 'steergraph[ray]'") from error
        _knock(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
            try:
                if address == "local":
                    ray.init(include_dashboard=False, num_cpus=max(replicas or 1, os.cpu_count() or 1), **common)
                else:
                    ray.init(address=address, **common)
            except Exception as error:  # the client, gRPC and the scripts each have errors of their own
                raise InputError(f"--ray {address}: no cluster there: {_line(error)}") from error
        gpus = int(ray.cluster_resources().get("GPU", 0))
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        self._wanted = replicas or gpus or nodes
        self._jobs = jobs
        actor = ray.remote(Replica)
        options = {"num_cpus": 1, "num_gpus": 1 if gpus else 0, "max_concurrency": jobs, "max_restarts": 0}
        arguments = (config.model_dump_json(), state, str(folder))
        self._start: Callable[[], Any] = lambda: actor.options(**options, scheduling_strategy="SPREAD").remote(
            *arguments
        )
        self._starting: dict[Any, Any] = {}
        self._live: dict[Any, int] = {}
        self._failed = 0
        self._info: ModelInfo | None = None
        self.pids: dict[Any, int] = {}
        """Process id of each live replica."""

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(self, *_: object) -> None:
        for replica in [*self._live, *self._starting.values()]:
            self._ray.kill(replica)
        if self._ours:
            self._ray.shutdown()

    @property
    def info(self) -> ModelInfo:
        """What the model is; waits for the first replica. Raises InputError where none can be started."""
        until = time.monotonic() + _START_S
        while self._info is None:
            if time.monotonic() > until:
                raise InputError(
                    f"--ray: no replica found room in {_START_S:g} s: each needs a free CPU, or a free GPU"
                )
            self._replenish()
            started, _ = self._ray.wait(list(self._starting), num_returns=1, timeout=1.0)
            for ref in started:
                self._welcome(ref)
        return self._info

    def results(self, units: Sequence[Unit]) -> Iterator[Done]:
        """Each of `units`, done, in the order in which they end. Raises RunStopped where the run can't go on."""
        waiting = deque(units)
        running: dict[Any, tuple[Unit, Any]] = {}
        deaths: Counter[str] = Counter()
        left = len(units)
        while left:
            self._replenish()
            for replica in sorted(self._live, key=lambda r: self._live[r]):
                while waiting and self._live[replica] < self._jobs:
                    unit = waiting.popleft()
                    dumped = unit.model_copy(update={"repo": None}).model_dump_json()
                    running[replica.make.remote(dumped, unit.repo)] = (unit, replica)
                    self._live[replica] += 1
            ended, _ = self._ray.wait([*running, *self._starting], num_returns=1, timeout=1.0)
            for ref in ended:
                if ref in self._starting:
                    self._welcome(ref)
                    continue
                unit, replica = running.pop(ref)
                answer = self._answer(ref)
                if answer is None:
                    self._live.pop(replica, None)
                    self.pids.pop(replica, None)
                    deaths[unit.name] += 1
                    if deaths[unit.name] < DEATHS:
                        waiting.appendleft(unit)
                        continue
                    answer = {"outcome": _given_up(unit), "trace": []}
                elif replica in self._live:
                    self._live[replica] -= 1
                if "stopped" in answer:
                    raise RunStopped(answer["stopped"])
                left -= 1
                yield Done(unit=unit, outcome=answer["outcome"], trace=tuple(answer["trace"]))

    def _replenish(self) -> None:
        """As many replicas, living or being started, as are wanted. One that finds no room waits for it."""
        while len(self._live) + len(self._starting) < self._wanted:
            replica = self._start()
            self._starting[replica.ready.remote()] = replica

    def _welcome(self, ref: Any) -> None:
        replica = self._starting.pop(ref)
        try:
            told = json.loads(self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            self._failed += 1
            if self._failed >= _FAILED_STARTS:
                raise InputError(f"--ray: no replica can be started: {_line(error)}") from error
            return
        self._failed = 0
        self._info = ModelInfo.model_validate(told["info"])
        self._live[replica] = 0
        self.pids[replica] = told["pid"]

    def _answer(self, ref: Any) -> dict[str, Any] | None:
        """What a sample's task answered; None where its worker, or its node, is gone."""
        try:
            answer: dict[str, Any] = json.loads(self._ray.get(ref))
            return answer
        except self._ray.exceptions.RayTaskError as error:
            raise RunStopped(f"a replica failed: {_line(error)}") from error
        except self._ray.exceptions.RayError:
            return None


def _knock(address: str) -> None:
    """Raise InputError where nobody listens at HOST:PORT: Ray itself tries for minutes, then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        if address not in ("local", "auto"):
            raise InputError(f"--ray {address[:100]}: say local, auto, or a cluster's HOST:PORT")
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray {address}: no cluster there: {error}") from error


def _given_up(unit: Unit) -> dict[str, Any]:
    return {
        "status": "error",
        "error": f"the worker that made it died {DEATHS} times",
        "patch": None,
        "steps": [],
        "tokens": 0,
        "seconds": 0.0,
        "files_found": [],
        "problems": [],
        "source": unit.source.model_dump(mode="json"),
        "sample": unit.sample,
        "edit": None,
    }


def _line(error: Exception) -> str:
    """Of a report with a remote stack trace, the last line, which names the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable((lines or [type(error).__name__])[-1], "?")[:300]
