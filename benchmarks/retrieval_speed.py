"""Files of a commit ranked for a query: the plain way, and steergraph's, in one run.

    python benchmarks/retrieval_speed.py --repo BUNDLE|FOLDER [--commits 6] [--stride 20] [--runs 5] [--ways WAY ...]

The plain way, on a clone that is there already: check the commit out, read its non-test Python files, make their terms
(the same ones), index them with `rank_bm25.BM25Okapi`, score. `plain` (steergraph/retrieval/plain.py) opens the mirror,
reads blobs, and keeps counts on disk; each commit is done as if by a new process, with nothing in memory. In "plain,
same process" it still knows what it saw. `retriever` is `BM25Retriever.retrieve`, with the cache on disk and nothing in
memory: it ranks by more, cuts the best files into functions and packs these. Every way runs in a process of its own, in
turn, `--runs` times; imports are not counted. Commits lie `--stride` apart on the first-parent line, oldest first; the
time of a commit includes its first query. Processor time tells more on a machine that others use too. Peak memory is
the highest resident size above that after the imports. Prints a table of medians, and whether the rankings were equal.
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

WAYS = ("rank_bm25", "plain", "plain, same process", "retriever")
QUERIES, QUERY_TERMS, TOP = 20, 30, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--commits", type=int, default=6)
    parser.add_argument("--stride", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="besides rank_bm25; default: all")
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
    from steergraph.retrieval.terms import terms

    cache = folder / "cache"
    source = Path(arguments.repo).resolve()
    with Repository.open(source, cache_dir=cache) as repository:
        line = run_git(["rev-list", "--first-parent", repository.resolve()], repository.git_dir).decode().split()
        commits = line[:: arguments.stride][: arguments.commits][::-1]
        entries = python_files(repository, commits[0])
        texts = [file.text or "" for file in repository.read_entries(entries)]
        chance = random.Random(0)
        lines = [line for text in texts for line in text.splitlines() if len(terms(line)) > 2]
        queries = [[t for line in chance.sample(lines, 12) for t in terms(line)][:QUERY_TERMS] for _ in range(QUERIES)]
        print(f"{source.name}: {len(texts)} files, {sum(map(len, texts)) / 1e6:.2f} MB, {len(commits)} commits", end="")
        print(f" {arguments.stride} apart, {arguments.runs} runs")
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", "--no-checkout", source, clone], check=True)
    ways = [way for way in WAYS if way == WAYS[0] or way in arguments.ways]
    found: dict[str, Any] = {way: [] for way in ways}
    for run in range(arguments.runs):
        for way in ways:
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
    oracle = found["rank_bm25"][0]
    for way in found.keys() & {"plain", "plain, same process"}:
        equal = sum(a == b for a, b in zip(oracle["rankings"], found[way][0]["rankings"], strict=True))
        pairs = zip(oracle["scores"], found[way][0]["scores"], strict=True)
        worst = max(abs(a - b) for left, right in pairs for a, b in zip(left, right, strict=True))
        print(f"{way}: {equal} of {len(oracle['rankings'])} rankings equal, scores within {worst:.1e}")


def child(way: str, task: dict[str, Any]) -> dict[str, Any]:
    """One way over all commits, in this process."""
    work = {"rank_bm25": rank_bm25, "retriever": retriever}.get(way, plain)(task, way)
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
    queries, ranked = [], []
    for query in task["queries"]:
        began = time.perf_counter()
        result = score(query)
        queries.append(time.perf_counter() - began)
        ranked.append(sorted(result, key=lambda item: -item[1])[:TOP])
    return {
        "first": times[0],
        "next": statistics.median(times[1:]),
        "first busy": busy[0],
        "next busy": statistics.median(busy[1:]),
        "query": statistics.median(queries) * 1000,
        "peak": memory("VmHWM") - start,
        "whole": memory("VmHWM"),
        "rankings": [[path for path, _ in result] for result in ranked],
        "scores": [[value for _, value in result] for result in ranked],
    }


def rank_bm25(task: dict[str, Any], _: str) -> Any:
    from rank_bm25 import BM25Okapi

    from steergraph.retrieval.retriever import is_test
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
        commit = yield lambda query, index=index, paths=paths: zip(paths, index.get_scores(query).tolist(), strict=True)


def plain(task: dict[str, Any], way: str) -> Any:
    from steergraph.repo.repository import Repository
    from steergraph.retrieval.plain import CountStore, PlainIndex
    from steergraph.retrieval.term_cache import TermCache

    commit = yield
    keep = way != "plain"
    store = CountStore(TermCache(task["terms"]))
    repository = Repository.open(task["repo"], cache_dir=task["cache"]) if keep else None
    while True:
        if not keep:
            store = CountStore(TermCache(task["terms"]))
            repository = Repository.open(task["repo"], cache_dir=task["cache"])
        index = PlainIndex(repository, python_files(repository, commit), store)
        commit = yield lambda query, index=index: zip(index.paths, index.okapi.get_scores(query).tolist(), strict=True)


def retriever(task: dict[str, Any], _: str) -> Any:
    from steergraph.repo.repository import Repository
    from steergraph.retrieval.retriever import BM25Retriever
    from steergraph.retrieval.term_cache import TermCache

    commit = yield
    while True:
        ranker = BM25Retriever(cache=TermCache(task["terms"]))
        repository = Repository.open(task["repo"], cache_dir=task["cache"])

        def score(query: list[str], ranker=ranker, repository=repository, commit=commit) -> Any:
            found = ranker.retrieve(repository, commit, " ".join(query), [], 4000, lambda text: len(text) // 4)
            return [(ranked.path, ranked.score) for ranked in found.ranked]

        commit = yield score


def python_files(repository: Any, commit: str) -> list[Any]:
    from steergraph.retrieval.retriever import is_test

    return [e for e in repository.files(commit) if e.path.endswith(".py") and e.kind == "file" and not is_test(e.path)]


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
