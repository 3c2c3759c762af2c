"""Grading in the sandbox: every prediction of a run gets a verdict, and no verdict is given in an unproved environment.

Knows the order of things: checkout, environment, gold, prediction, official report. The gold patch of an instance must
be resolved in an environment before a prediction for it is graded there; otherwise the prediction is `ungraded`.
"""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import psutil

from steergraph.base.errors import InputError
from steergraph.base.files import held, write_whole
from steergraph.evals.grading.environments import (
    Environment,
    EnvironmentFailed,
    add_missing,
    environment_for,
    locked,
    temporary,
)
from steergraph.evals.grading.official import Official, OfficialError
from steergraph.evals.grading.pins import Pins, Recipe
from steergraph.evals.grading.report import write_reports
from steergraph.evals.grading.rows import SAFE_NAME, Prediction, Row, gold_predictions
from steergraph.evals.grading.sandbox import Bounds, run_patch
from steergraph.evals.grading.verdict import Verdict, count, keep, kept, why_unresolved
from steergraph.evals.grading.wheels import FetchFailed
from steergraph.evals.swebench.repos import Repos
from steergraph.repo.git import run_git
from steergraph.repo.repository import Repository
from steergraph.sandbox.run import Sandbox, SandboxUnavailable

LOGS = Path("logs/run_evaluation")
_ROUNDS = 3


class Places(NamedTuple):
    """Where repositories are, and the folders of environments and of the run's output."""

    repos: Repos
    cache: Path
    out: Path
    fetch: bool = True
    """Whether a package index may be asked for wheels."""


class Grader:
    """Grades predictions on `rows` in the sandbox. A context manager; safe to use from several threads."""

    def __init__(
        self,
        rows: Mapping[str, Row],
        pins: Pins,
        places: Places,
        sandbox: Sandbox,
        bounds: Bounds,
        run_id: str,
        official: Official | None = None,
    ) -> None:
        """`official`: a process to share; one of its own is started and ended otherwise. Raises InputError."""
        if not SAFE_NAME.fullmatch(run_id):
            raise InputError(f"{run_id[:80]!r} cannot name a run: letters, digits, dot, dash and underscore can")
        self._rows, self._pins, self._places, self._sandbox, self._bounds = rows, pins, places, sandbox, bounds
        self._versions = {name: row.version for name, row in rows.items()}
        self.logs = places.out / LOGS / run_id
        self._official, self._shared = official or Official(), official is not None
        self._lock = threading.Lock()
        self._repositories: dict[str, Repository] = {}
        self._by_key: dict[str, threading.Lock] = {}
        self._failed: dict[str, str] = {}
        self._tried: set[str] = set()
        self._stopping = threading.Event()

    def close(self) -> None:
        if not self._shared:
            self._official.close()
        for repository in self._repositories.values():
            repository.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def grade(self, prediction: Prediction) -> Verdict:
        """The verdict on one prediction: kept from before, or made now and kept. Raises nothing for what a patch does.

        Raises SandboxUnavailable.
        """
        row = self._rows[prediction.instance_id]
        folder = self.logs / prediction.model / row.instance_id
        if found := kept(folder, row, prediction):
            return found
        shutil.rmtree(folder, ignore_errors=True)
        try:
            verdict = self._grade(row, prediction, folder)
        except SandboxUnavailable:
            raise
        except (InputError, OSError) as error:
            if self._stopping.is_set():
                raise
            verdict = self._said(row, prediction, "ungraded", " ".join(str(error).split())[:300])
        keep(folder, verdict)
        return verdict

    def grade_all(
        self,
        predictions: Sequence[Prediction],
        jobs: int = 1,
        tell: Callable[[Verdict], None] = lambda _: None,
        *,
        end_children: bool = False,
    ) -> list[Verdict]:
        """Grade all, `jobs` at a time. `tell` sees each as it ends.

        Interrupted, it keeps no verdict of what runs, and the same run id goes on from there; with `end_children` all
        child processes of this one are ended, else those that run are waited for. Raises InputError where another
        process grades this run, OfficialError where swebench is missing.
        """
        self._official.ready()
        order = sorted(predictions, key=lambda each: (self._rows[each.instance_id].repo, each.instance_id, each.model))

        def one(prediction: Prediction) -> Verdict:
            verdict = self.grade(prediction)
            with self._lock:
                tell(verdict)
            return verdict

        self.logs.mkdir(parents=True, exist_ok=True)
        refused = f"another process grades the run {self.logs.name}: wait, or take another --run-id"
        with held(self.logs / ".lock", refused), ThreadPoolExecutor(max(1, jobs)) as pool:
            futures = [pool.submit(one, prediction) for prediction in order]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._stopping.set()
                pool.shutdown(wait=False, cancel_futures=True)
                while end_children and any(future.running() for future in futures):
                    for process in psutil.Process().children(recursive=True):
                        with suppress(psutil.Error):
                            process.kill()
                    wait(futures, timeout=0.5)
                raise

    def summarise(self, verdicts: Sequence[Verdict], predictions: Sequence[Prediction], dataset: Path) -> list[Path]:
        """Write the final report for each model, and `run.json` for `swebench report`; see `write_reports`."""
        return write_reports(self._official, self._places.out, self.logs, self._rows, verdicts, predictions, dataset)

    def _grade(self, row: Row, prediction: Prediction, folder: Path) -> Verdict:
        if not prediction.patch:
            return self._said(row, prediction, "empty", "there is no patch")
        recipe = self._pins.recipe(row.instance_id, row.repo, row.version, self._versions)
        with temporary(self._places.cache) as scratch:
            testbed = scratch / "testbed"
            repository = self._repository(row.repo)
            with repository.working_copy(row.base_commit, testbed):
                # The commit's parent too: eval scripts show the commit, which would be the whole tree without one.
                source = str(repository.git_dir.resolve())
                run_git(["fetch", "-q", "--depth=2", "--no-tags", source, row.base_commit], testbed, protocols=["file"])
                script = self._official.eval_script(row.columns)
                environment = self._environment(row, recipe, testbed, script)
                with locked(self._places.cache, f"{environment.key}-{row.instance_id}"):
                    proof = self._proof(row, environment, testbed, script)
                if proof.verdict != "resolved":
                    why = f"gold is {proof.verdict.replace('_', ' ')} in this environment: {proof.reason}"
                    said = self._said(row, prediction, "ungraded", why, environment, proof.seconds)
                    return said.model_copy(update={"passed": proof.passed if prediction.is_gold else None})
                if not prediction.is_gold:
                    return self._run(row, prediction, environment, testbed, script, folder)
        # It is the proof itself; its files are the run's too.
        shutil.copytree(environment.folder / "proofs" / row.instance_id, folder, dirs_exist_ok=True)
        return proof.model_copy(update={"model": prediction.model, "patch": prediction.fingerprint})

    def _proof(self, row: Row, environment: Environment, testbed: Path, script: str) -> Verdict:
        """The verdict on the gold patch in this environment: kept from before where it was resolved, or made now."""
        gold = gold_predictions([row])[0]
        folder = environment.folder / "proofs" / row.instance_id
        proof = kept(folder, row, gold)
        if proof is None or (proof.verdict != "resolved" and row.instance_id not in self._tried):
            self._tried.add(row.instance_id)
            proof = self._prove(row, gold, environment, testbed, script, folder)
            keep(folder, proof)
        return proof

    def _prove(
        self, row: Row, gold: Prediction, environment: Environment, testbed: Path, script: str, folder: Path
    ) -> Verdict:
        """Run the gold patch; again where its installation lacked packages that can be had."""
        for _ in range(_ROUNDS):
            verdict = self._run(row, gold, environment, testbed, script, folder)
            log = folder / "test_output.txt"
            if verdict.verdict == "resolved" or not self._places.fetch or not log.is_file():
                break
            if not add_missing(environment, log.read_text(encoding="utf-8")):
                break
        return verdict

    def _run(
        self, row: Row, prediction: Prediction, environment: Environment, testbed: Path, script: str, folder: Path
    ) -> Verdict:
        assert prediction.patch
        scratch = testbed.parent
        ran = run_patch(prediction.patch, script, testbed, environment, self._sandbox, scratch, folder, self._bounds)
        self._go_on()
        if not ran.applied:
            return self._said(row, prediction, "not_applied", ran.reason, environment)
        if ran.stopped:
            return self._said(row, prediction, "stopped", ran.reason, environment, seconds=ran.seconds)
        said = {"instance_id": row.instance_id, "model_patch": "", "model_name_or_path": prediction.model}
        try:
            report = self._official.report(row.columns, said, folder / "test_output.txt")
        except OfficialError as error:  # what a patch prints must not make it ungraded
            self._go_on()
            return self._said(row, prediction, "stopped", str(error), environment, seconds=ran.seconds)
        write_whole(folder / "report.json", json.dumps(report, indent=4))
        own = report[row.instance_id]
        reason = "" if own["resolved"] else why_unresolved(own, ran.log or "")
        verdict = self._said(
            row, prediction, "resolved" if own["resolved"] else "unresolved", reason, environment, seconds=ran.seconds
        )
        return verdict.model_copy(update={"passed": count(own)})

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise InputError("interrupted")

    def _environment(self, row: Row, recipe: Recipe, testbed: Path, script: str) -> Environment:
        with self._one_at_a_time(recipe.key):
            if recipe.key in self._failed:
                raise EnvironmentFailed(self._failed[recipe.key])
            try:
                return environment_for(
                    recipe,
                    testbed,
                    install_part(script),
                    self._sandbox,
                    self._places.cache,
                    fetch=self._places.fetch,
                )
            except (EnvironmentFailed, FetchFailed) as error:
                self._failed[recipe.key] = str(error)
                raise

    def _repository(self, repo: str) -> Repository:
        with self._lock:
            if repo not in self._repositories:
                if (found := self._places.repos.of(repo)) is None:
                    raise InputError(f"{repo}: no clone or bundle of it in {self._places.repos.shown}")
                self._repositories[repo] = Repository.open(found)
            return self._repositories[repo]

    @contextmanager
    def _one_at_a_time(self, key: str) -> Iterator[None]:
        with self._lock:
            lock = self._by_key.setdefault(key, threading.Lock())
        with lock:
            yield

    @staticmethod
    def _said(
        row: Row, prediction: Prediction, kind: str, reason: str, where: Environment | None = None, seconds: float = 0.0
    ) -> Verdict:
        return Verdict(
            instance_id=row.instance_id,
            model=prediction.model,
            verdict=kind,  # type: ignore[arg-type]
            reason=reason,
            seconds=round(seconds, 2),
            environment=where.key if where else "",
            is_gold=prediction.is_gold,
            patch=prediction.fingerprint,
            row=row.fingerprint,
        )


def install_part(script: str) -> str:
    """The commands of an eval script between the last activation and the first checkout: they install the project."""
    lines = script.split("\n")
    starts = [number for number, line in enumerate(lines) if line.startswith("conda activate ")]
    begin = starts[-1] + 1 if starts else 0
    end = next((n for n, line in enumerate(lines) if n >= begin and line.startswith("git checkout ")), begin)
    return "\n".join(line for line in lines[begin:end] if line.strip()) or "true"
