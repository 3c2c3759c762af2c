"""Files of a commit ranked for a query: the plain way, and steergraph's, in one run.

    python benchmarks/retrieval_speed.py --repo BUNDLE|FOLDER [--commits 6] [--stride 20] [--runs 5]

The plain way, on a clone that is there already: check the commit out, read its non-test Python files, make their terms
(the same ones), index them with `rank_bm25.BM25Okapi`, score. `retriever` is `BM25Retriever.retrieve`, with the cache
on disk and nothing in memory: it ranks by more, cuts the best files into functions and packs these. Each way runs in a
process of its own, in turn, `--runs` times; imports are not counted. Commits lie `--stride` apart on the first-parent
line, oldest first; the time of a commit includes its first query. Processor time tells more on a machine that others
use too. Peak memory is the highest resident size above that after the imports. Prints a table of medians.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = ("rank_bm25", "retriever")
QUERIES, QUERY_TERMS = 20, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--commits", type=int, default=6)
    parser.add_argument("--stride", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child, json.load(sys.stdin))))
        return
    with tempfile.TemporaryDirectory() as folder:
        report(measure(arguments, Path(folder)))


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from steergraph.repo.git import run_git
    from steergraph.repo.repository import Repository
    from steergraph.retrieval.mentions import is_test
    from steergraph.retrieval.terms import terms

    cache = folder / "cache"
    source = Path(arguments.repo).resolve()
    with Repository.open(source, cache_dir=cache) as repository:
        line = run_git(["rev-list", "--first-parent", repository.resolve()], repository.git_dir).decode().split()
        commits = line[:: arguments.stride][: arguments.commits][::-1]
        entries = [e for e in repository.files(commits[0]) if e.path.endswith(".py") and not is_test(e.path)]
        texts = [file.text or "" for file in repository.read_entries(entries)]
        chance = random.Random(0)
        lines = [line for text in texts for line in text.splitlines() if len(terms(line)) > 2]
        queries = [[t for line in chance.sample(lines, 12) for t in terms(line)][:QUERY_TERMS] for _ in range(QUERIES)]
        print(f"{source.name}: {len(texts)} files, {sum(map(len, texts)) / 1e6:.2f} MB, {len(commits)} commits", end="")
        print(f" {arguments.stride} apart, {arguments.runs} runs")
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", "--no-checkout", source, clone], check=True)
    found: dict[str, Any] = {way: [] for way in WAYS}
    for run in range(arguments.runs):
        for way in WAYS:
            task = {"repo": str(source), "cache": str(cache), "clone": str(clone), "commits": commits}
            task |= {"queries": queries, "terms": str(folder / f"terms-{run}-{way}"), "tree": str(folder / "tree")}
            done = subprocess.run(
                [sys.executable, __file__, "--repo", "x", "--child", way],
                input=json.dumps(task),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            found[way].append(json.loads(done.stdout))
    return found


def report(found: dict[str, Any]) -> None:
    def median(way: str, what: str) -> float:
        return statistics.median(run[what] for run in found[way])

    names = {"first": "first commit, s", "first busy": "its processor time", "next": "a further commit, s"}
    names |= {"next busy": "its processor time", "query": "a query, ms", "peak": "peak, MB"}
    print(f"\n| way | {' | '.join(names.values())} | whole process, MB |\n|{'---|' * (len(names) + 2)}")
    for way in found:
        cells = []
        for what in names:
            value, base = median(way, what), median("rank_bm25", what)
            cells.append(f"{value:.3g}" + (f" ({base / value:.1f}x)" if way != "rank_bm25" else ""))
        print(f"| {way} | {' | '.join(cells)} | {median(way, 'whole'):.0f} |")


def child(way: str, task: dict[str, Any]) -> dict[str, Any]:
    """One way over all commits, in this process."""
    work = {"rank_bm25": rank_bm25, "retriever": retriever}[way](task)
    next(work)  # imports
    start = memory("VmRSS", reset=True)
    times, busy, score = [], [], None
    for commit in task["commits"]:
        began, worked = time.perf_counter(), processor()
        score = work.send(commit)
        score(task["queries"][0])
        times.append(time.perf_counter() - began)
        busy.append(processor() - worked)
    assert score is not None
    queries = []
    for query in task["queries"]:
        began = time.perf_counter()
        score(query)
        queries.append(time.perf_counter() - began)
    return {
        "first": times[0],
        "next": statistics.median(times[1:]),
        "first busy": busy[0],
        "next busy": statistics.median(busy[1:]),
        "query": statistics.median(queries) * 1000,
        "peak": memory("VmHWM") - start,
        "whole": memory("VmHWM"),
    }


def rank_bm25(task: dict[str, Any]) -> Any:
    from rank_bm25 import BM25Okapi

    from steergraph.retrieval.mentions import is_test
    from steergraph.retrieval.terms import terms

    root, commit = Path(task["tree"]), (yield)
    root.mkdir(exist_ok=True)
    for left in root.iterdir():  # the run before left a tree
        subprocess.run(["rm", "-rf", left], check=True)
    (Path(task["clone"]) / ".git" / "index").unlink(missing_ok=True)
    while True:
        git = ["git", f"--git-dir={task['clone']}/.git", f"--work-tree={root}"]
        subprocess.run([*git, "checkout", "-q", "--force", commit], check=True, cwd=root)
        found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py") if path.is_file())
        paths = [path for path in found if not is_test(path)]
        texts = [(root / path).read_bytes().decode("utf-8", "replace") for path in paths]
        index = BM25Okapi([terms(path) + terms(text) for path, text in zip(paths, texts, strict=True)])
        del texts
        commit = yield index.get_scores


def retriever(task: dict[str, Any]) -> Any:
    from steergraph.repo.repository import Repository
    from steergraph.retrieval.retriever import BM25Retriever
    from steergraph.retrieval.term_cache import TermCache

    commit = yield
    while True:
        ranker = BM25Retriever(cache=TermCache(task["terms"]))
        repository = Repository.open(task["repo"], cache_dir=task["cache"])

        def score(query: list[str], ranker=ranker, repository=repository, commit=commit) -> Any:
            return ranker.retrieve(repository, commit, " ".join(query), [], 4000, lambda text: len(text) // 4)

        commit = yield score


def processor() -> float:
    """Seconds of processor time, of this process and of those that it waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def memory(name: str, reset: bool = False) -> float:
    """Resident size now (VmRSS) or at its highest (VmHWM), in MB; the highest is forgotten at `reset`."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    said = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{name}:\s+(\d+) kB", said)
    assert found is not None
    return int(found[1]) / 1000


if __name__ == "__main__":
    main()
