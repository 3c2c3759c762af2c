"""One instance through every arm: plain BM25 by rank_bm25, twice, and the ranker that was chosen. Runs in a process of
its own; what it returns is plain data.

Knows repositories and arms. The gold patch is looked at after every arm has answered.
"""

import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.evals.retrieval.gold import gold_files, gold_functions
from steergraph.evals.retrieval.measure import (
    BUDGETS,
    counter,
    files_of,
    functions_in_files,
    functions_shown,
    recall,
    whole_files,
)
from steergraph.repo.repository import Repository
from steergraph.retrieval import Ranker
from steergraph.retrieval.mentions import is_test
from steergraph.retrieval.rank import Index
from steergraph.retrieval.retriever import BM25Retriever, Search
from steergraph.retrieval.signals import Signals
from steergraph.retrieval.term_cache import TermCache
from steergraph.retrieval.terms import terms

WHITESPACE, IDENTIFIERS, FIELDS, PASSAGES = "rank_bm25 whitespace", "rank_bm25 identifiers", "steergraph", "passages"
ARMS = (WHITESPACE, IDENTIFIERS, FIELDS)
"""Rankings of files; FIELDS with the ranker `fields` alone. PASSAGES is what the ranker packs in the place of whole
files."""
_RANKED = 20
_KEPT_FILES = 200
_DIGITS = 4


class Unit(Frozen):
    """An instance, where its repository is, and how it is to be measured."""

    instance_id: str
    repo: str
    base_commit: str
    problem: str
    patch: str
    source: str
    tokenizer: str | None = None
    reranker: str | None = None
    ranker: Ranker = "fields"


def measure(unit: Unit) -> dict[str, Any]:
    """The record of an instance: its gold, each arm's ranking, what fits each budget, and the signals of the best
    files. Where it can't be measured, `error` says why in one line."""
    started = time.monotonic()
    record: dict[str, Any] = {"instance_id": unit.instance_id, "repo": unit.repo, "base_commit": unit.base_commit}
    try:
        record |= _measured(unit)
    except InputError as error:
        record["error"] = " ".join(str(error).split())
    return record | {"seconds": round(time.monotonic() - started, 3)}


def _measured(unit: Unit) -> dict[str, Any]:
    repository = _repository(unit.source)
    sha = repository.resolve(unit.base_commit)
    entries = [e for e in repository.files(sha) if e.path.endswith(".py") and not is_test(e.path)]
    texts = {file.path: file.text for file in repository.read_entries(entries) if file.text is not None}
    search = _retriever(unit.ranker, unit.reranker).search(repository, sha, unit.problem)
    splits: dict[str, Callable[[str], list[str]]] = {WHITESPACE: str.split, IDENTIFIERS: terms}
    rankings: dict[str, list[str]] = {}
    for arm, split in splits.items():  # a document is a file's path and content, the query is the issue
        index = Index({path: split(f"{path}\n{text}") for path, text in texts.items()})
        rankings[arm] = [ranked.path for ranked in index.rank(split(unit.problem))[:_RANKED]]
    if unit.ranker == "fields":
        rankings[FIELDS] = [ranked.path for ranked in search.ranked]
    gold = gold_files(unit.patch)
    gold_texts = {path: text for path in gold if (text := repository.read_text(sha, path)) is not None}
    functions = gold_functions(unit.patch, gold_texts)
    count = _counter(unit.tokenizer)
    arms: dict[str, Any] = {}
    for arm, ranked in rankings.items():
        sizes = {path: count(texts.get(path) or "") for path in ranked}
        fitting = {budget: whole_files(ranked, sizes, budget) for budget in BUDGETS}
        arms[arm] = {
            "ranked": ranked,
            "files_at": {str(b): round(recall(files, gold), _DIGITS) for b, files in fitting.items()} if gold else {},
            "functions_at": {str(b): functions_in_files(files, functions) for b, files in fitting.items()}
            if functions
            else {},
        }
    arms[PASSAGES] = _passages(search, count, gold, functions)
    return {
        "gold": gold,
        "functions": [function.model_dump(mode="json") for function in functions],
        "arms": arms,
        "signals": _signals(search.signals, gold) if search.signals else {},
    }


def _passages(search: Search, count: Callable[[str], int], gold: Sequence[str], functions: Sequence[Any]) -> Any:
    packed = {budget: search.pack(budget, count).passages for budget in BUDGETS}
    return {
        "files_at": {str(b): recall(files_of(p), gold) for b, p in packed.items()} if gold else {},
        "functions_at": {str(b): functions_shown(p, functions) for b, p in packed.items()} if functions else {},
    }


def _signals(signals: Signals, gold: Sequence[str]) -> dict[str, list[float]]:
    """The signals of the files that score best, and of the gold ones."""
    scores = signals.scores()
    best = set(scores.argsort()[::-1][:_KEPT_FILES].tolist())
    return {
        path: [round(value, _DIGITS) for value in signals.table[at].tolist()]
        for at, path in enumerate(signals.corpus.paths)
        if at in best or path in gold
    }


@lru_cache(maxsize=4)
def _repository(source: str) -> Repository:
    return Repository.open(source)


@lru_cache(maxsize=1)
def _retriever(ranker: Ranker, reranker: str | None) -> BM25Retriever:
    """All 20 files are cut into passages, and they fill the budget: this measures recall, not what a model can bear."""
    loaded = None
    if reranker is not None:
        from steergraph.agents.rerank import load_reranker

        loaded = load_reranker(reranker)
    return BM25Retriever(ranker=ranker, files=_RANKED, floor=0.0, cache=TermCache(), reranker=loaded)


@lru_cache(maxsize=1)
def _counter(tokenizer: str | None) -> Callable[[str], int]:
    count = counter(tokenizer)
    return lru_cache(maxsize=100_000)(count)


def settings_of(unit: Unit) -> str:
    """What must be the same for records to stand in one table."""
    from steergraph.retrieval import analysis
    from steergraph.retrieval.signals import WEIGHTS

    ranker = "" if unit.ranker == "fields" else f" {unit.ranker}"
    return re.sub(r"\s+", " ", f"{analysis.VERSION} {dict(WEIGHTS)} {unit.tokenizer} {unit.reranker}{ranker}")
