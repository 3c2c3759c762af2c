"""What the batch tests share: a dataset over the example repository, an engine that repairs it, a run in a line."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from steergraph.engine.protocol import Request
from steergraph.engine.scripted import ScriptedEngine
from steergraph.evals.swebench.batch import Plan, run_batch
from steergraph.evals.swebench.config import BatchConfig
from steergraph.evals.swebench.datasets import row_hash
from steergraph.evals.swebench.folder import BatchFolder
from steergraph.evals.swebench.local_pool import LocalPool
from steergraph.evals.swebench.repos import Repos
from steergraph.evals.swebench.sources import Source, plan_sources
from steergraph.evals.swebench.worker import Worker
from steergraph.repo.repository import Repository

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# The defect and its repair, in the functions whose issue the scripted engine can solve.
REPAIRS = {"low_items": ("stock", "< limit", "<= limit"), "keeps": ("fridge", "closed or not", "closed and not")}
GOLD_COLUMNS = ("patch", "test_patch", "FAIL_TO_PASS", "PASS_TO_PASS", "hints_text")


def pantry_rows(*names: str) -> list[dict[str, str]]:
    """Rows of a dataset of our own, v5 columns and planted gold included."""
    sha = Repository.open(str(EXAMPLES / "pantry.bundle")).resolve(None)
    return [
        {
            "instance_id": f"steergraph__pantry-{name}",
            "repo": "steergraph/pantry",
            "base_commit": sha,
            "version": "1.0",
            "problem_statement": (EXAMPLES / "issues" / f"{name}.md").read_text(encoding="utf-8"),
            **{column: f"canary-{column}" for column in GOLD_COLUMNS},
            **dict.fromkeys(("image", "eval_script", "log_parser", "eval_type"), "canary-v5"),
        }
        for name in names
    ]


def cut(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [{k: r[k] for k in ("instance_id", "repo", "base_commit", "version", "problem_statement")} for r in rows]


def write_dataset(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def repairs(request: Request) -> str:
    """Repairs the first line of its prompt that it knows to be wrong."""
    system, user = (message.content for message in request.messages)
    if "fix bugs" not in system:
        return "It is in `low_items`, or in `keeps`."
    about = sorted(REPAIRS, key=lambda function: -user.split("Repository")[0].count(f"{function}("))
    for name, wrong, right in map(REPAIRS.__getitem__, about):
        for line in user.splitlines():
            if wrong in line and "|" in line:
                code = line.split("|", 1)[1]
                return (
                    f"pantry/{name}.py\n<<<<<<< SEARCH\n{code}\n=======\n{code.replace(wrong, right)}\n>>>>>>> REPLACE"
                )
    return "I can't see it."


def batch(
    runs: Path,
    rows: Sequence[dict[str, str]],
    reply: Callable[[Request], str] = repairs,
    *,
    presets: Sequence[str] = ("rag_baseline",),
    samples: int = 1,
    jobs: int = 2,
    engine: Any = None,
    sources: tuple[Source, ...] | None = None,
    state: str | None = None,
    retry_errors: bool = False,
    repos: str | None = None,
    finished: Any = lambda record, before: None,
    pool_of: Callable[[BatchConfig, BatchFolder], Any] | None = None,
    **settings: Any,
) -> tuple[dict[str, Any], BatchFolder]:
    """A batch run in this process with id "r". Returns its summary and folder."""
    rows = cut(rows)
    folder = BatchFolder.open(runs, "r")
    with folder.locked():
        folder.sweep()
        asked = {
            "presets": list(presets),
            "instances": {r["instance_id"]: row_hash(r) for r in rows},
            "command": "test",
            "samples": samples,
        }
        begun = folder.begin(asked)
        folder.keep_model({"name": "scripted", "revision": "0"})
        config = BatchConfig(uid=begun["uid"], **{"max_repairs": 1} | settings)
        worker = Worker(config, engine or ScriptedEngine(reply), state)
        plan = Plan(
            rows=tuple(rows),
            presets=tuple(presets),
            order=tuple(r["instance_id"] for r in rows),
            sources={p: sources or plan_sources(samples, "none", []) for p in presets},
            model="scripted",
        )
        pool: Any = LocalPool(worker, jobs, lambda u: folder.sample(u.preset, u.instance_id, u.sample))
        if pool_of:
            pool = pool_of(config, folder)
        try:
            summary = run_batch(
                folder, plan, Repos(repos or str(EXAMPLES)), pool, worker.forget, finished, retry_errors=retry_errors
            )
        finally:
            worker.close()
    return summary, folder


def predictions(folder: BatchFolder, preset: str = "rag_baseline") -> list[dict[str, Any]]:
    text = (folder.path / "predictions" / f"{preset}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]
