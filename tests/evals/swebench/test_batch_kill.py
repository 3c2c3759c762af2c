"""kill -9 at any moment, then the same command again: nothing lost, nothing doubled, nothing finished done twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from batch_help import EXAMPLES, batch, pantry_rows, predictions, repairs, write_dataset

from steergraph.base import files as writing
from steergraph.evals.swebench import folder as batch_folder
from steergraph.evals.swebench import worker

NAMES = ("stock", "fridge", "labels")
SAMPLES = 2


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path_factory.getbasetemp() / "batch-cache"))


def logged_run(runs: Path, log: Path, rows: list[dict[str, str]]) -> None:
    """A run whose engine writes down every request that it answered."""

    def reply(request):
        said = repairs(request)
        with log.open("ab") as file:
            file.write(f"{asked(request)}\n".encode())
        return said

    batch(runs, rows, reply, samples=SAMPLES, jobs=2)


def asked(request) -> str:
    """Which step of which sample a request is: its prompts' hash and its seed."""
    return f"{hash_of(request.messages)} {request.seed} {request.sampling.temperature}"


def hash_of(messages) -> str:
    import hashlib

    return hashlib.sha256("\0".join(m.content for m in messages).encode()).hexdigest()[:12]


def in_child(work) -> int:
    """Run `work` in a forked process; its wait status. It never returns into the tests."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"child: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def dying_at(n: int, torn: bool) -> None:
    """Make this process kill itself at its n-th write to the run's folder: before it, or half way through the line."""
    left = [n]

    def dies(real, half):
        def write(path, content):
            left[0] -= 1
            if left[0] == 0:
                if torn:
                    half(path, content)
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            return real(path, content)

        return write

    def half_line(path, record):
        line = json.dumps(record).encode()
        with path.open("ab") as file:
            file.write(line[: len(line) // 2])

    def half_file(path, text):
        writing.draft_of(path).write_text(text[: len(text) // 2])

    append, whole = dies(writing.append_line, half_line), dies(writing.write_whole, half_file)
    batch_folder.append_line = worker.append_line = append
    batch_folder.write_whole = whole


def whole(folder, rows) -> list:
    """What must hold after every run that came to its end. Returns the predictions, and every step of every sample."""
    found = predictions(folder)
    steps = []
    assert [row["instance_id"] for row in found] == [row["instance_id"] for row in rows]
    for row in rows:
        record = folder.record("rag_baseline", row["instance_id"])
        assert len(record["candidates"]) == SAMPLES
        for sample in range(SAMPLES):
            at = folder.sample("rag_baseline", row["instance_id"], sample)
            for line in (at / "trace.jsonl").read_text().splitlines():
                assert "event" in json.loads(line)
            outcome = folder.outcome("rag_baseline", row["instance_id"], sample)
            steps.append([(s["specialist"], s["attempt"], s["text"], s["prompt"]) for s in outcome["steps"]])
            assert {p.name for p in at.iterdir()} == {"outcome.json", "trace.jsonl"}
    assert not list(folder.path.rglob(".*.tmp"))
    return [found, steps]


def killed_and_resumed(tmp_path: Path, name: str, rows, expected, requests: Counter, kill) -> None:
    runs, log = tmp_path / name, tmp_path / f"{name}.log"

    def first():
        kill()
        logged_run(runs, log, rows)

    status = in_child(first)
    assert status in (0, signal.SIGKILL), name
    assert in_child(lambda: logged_run(runs, log, rows)) == 0, name
    both = Counter(log.read_text().split("\n")[:-1])
    from steergraph.evals.swebench.folder import BatchFolder

    assert whole(BatchFolder(runs / "r"), rows) == expected, name
    # What was answered is not asked again, but for the step that each of the two in flight was taking.
    again = both - requests
    assert sum(again.values()) <= 2, (name, again)
    assert both - again == requests, name


@pytest.fixture
def undisturbed(tmp_path):
    rows = pantry_rows(*NAMES)
    log = tmp_path / "undisturbed.log"
    assert in_child(lambda: logged_run(tmp_path / "undisturbed", log, rows)) == 0
    from steergraph.evals.swebench.folder import BatchFolder

    folder = BatchFolder(tmp_path / "undisturbed" / "r")
    return rows, whole(folder, rows), Counter(log.read_text().split("\n")[:-1])


def test_killed_in_the_middle_of_a_line_and_elsewhere(undisturbed, tmp_path):
    rows, expected, requests = undisturbed
    for n, torn in ((25, True), (70, True)):
        killed_and_resumed(tmp_path, f"at-{n}-{torn}", rows, expected, requests, lambda n=n, t=torn: dying_at(n, t))


@pytest.mark.slow
def test_killed_at_every_write_and_at_random_moments(undisturbed, tmp_path):
    rows, expected, requests = undisturbed
    rng = random.Random(0)
    for n in [*range(1, 12), *rng.sample(range(12, 110), 20)]:
        torn = rng.random() < 0.5
        killed_and_resumed(tmp_path, f"at-{n}", rows, expected, requests, lambda n=n, t=torn: dying_at(n, t))
    for trial in range(20):
        seconds = rng.uniform(0.02, 2.0)

        def later(seconds=seconds):
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, seconds)

        killed_and_resumed(tmp_path, f"random-{trial}", rows, expected, requests, later)


@pytest.mark.slow
def test_the_command_is_killed_and_goes_on(tmp_path):
    """The real thing: pocket, the command in a process of its own, killed while instances are in flight."""
    rows = pantry_rows("stock", "fridge", "shelf")
    dataset = write_dataset(tmp_path / "rows.jsonl", rows)
    command = [sys.executable, "-m", "steergraph", "bench", "swebench", "--dataset", str(dataset), "--deterministic"]
    command += ["--repos", str(EXAMPLES), "--presets", "rag_baseline", "--max-repairs", "1", "--jobs", "3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(run_id: str, seconds: float | None) -> str:
        words = [*command, "--run-id", run_id]
        with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
            if seconds is not None:
                assert process.stdout.readline().startswith("run")
                time.sleep(seconds)
                process.kill()
            out = process.stdout.read()
            process.wait()
        assert seconds is not None or process.returncode == 0
        return out

    run("whole", None)
    for seconds in (0.5, 4.0):
        run("cut", seconds)
    assert "patched" in run("cut", None)
    results = [(tmp_path / "runs" / i / "predictions" / "rag_baseline.jsonl").read_text() for i in ("whole", "cut")]
    assert results[0] == results[1]
    assert results[0].count("\n") == len(rows)
