"""From an issue to the passages that matter: rank the files of a commit, rank the pieces of the best, pack them.

Knows the repository at one commit, terms and scores. Knows nothing of models: how many tokens a text has is asked of
`count`. Nothing from after the commit is read.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, get_args

import numpy as np

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.repo.contents import FileEntry, FileText
from steergraph.repo.repository import Repository
from steergraph.retrieval import Ranker, candidates
from steergraph.retrieval.corpus import AnalysisStore, Corpus
from steergraph.retrieval.mentions import is_test
from steergraph.retrieval.pack import Candidate, Count, LeftOut, Passage, pack
from steergraph.retrieval.query import parse
from steergraph.retrieval.rank import Index, Ranked
from steergraph.retrieval.rerank import Reranker, reranked
from steergraph.retrieval.signals import Signals
from steergraph.retrieval.term_cache import TermCache
from steergraph.retrieval.terms import identifiers, split_identifier, terms

_RANKED = 20


class Retrieved(Frozen):
    """What was searched for, what was found, and what of it fits. JSON-able."""

    query: str
    """The text searched with: what was asked, then on a last line the terms of the suspects that are known here."""
    ranked: tuple[Ranked, ...]
    """The best files, at most 20, best first."""
    passages: tuple[Passage, ...]
    """Best first."""
    tokens: int
    """Of the passages' texts joined by a blank line."""
    cut: tuple[LeftOut, ...]
    """Passages that were trimmed or did not fit, and files that could not be read, the first 20 of each."""


@dataclass(frozen=True)
class Search:
    """What was found, before any budget."""

    query: str
    """As in `Retrieved`."""
    ranked: Sequence[Ranked]
    """As in `Retrieved`."""
    candidates: Sequence[Candidate]
    """Pieces of the best files, best first."""
    lines: Mapping[str, Sequence[str]]
    """Of those files."""
    unread: Sequence[LeftOut]
    signals: Signals | None = None
    """What spoke for each file; None for the ranker `rank_bm25`."""

    def pack(self, budget: int, count: Count) -> Retrieved:
        """What of it fits `budget` tokens."""
        passages, tokens, cut = pack(self.candidates, self.lines, budget, count)
        return Retrieved(
            query=self.query,
            ranked=tuple(self.ranked),
            passages=passages,
            tokens=tokens,
            cut=(*cut, *self.unread[:_RANKED]),
        )


class Retriever(Protocol):
    """Whatever finds context for an issue; `build_graph(retriever=)` takes one."""

    def retrieve(
        self, repo: Repository, commit: str, query: str, suspects: Sequence[str], budget: int, count: Count
    ) -> Retrieved:
        """The passages that matter.

        Args:
            repo: the repository; nothing from after `commit` may be read.
            commit: full id.
            query: the issue's text.
            suspects: names or paths that may matter.
            budget: tokens that the passages may have together.
            count: tokens of a text, in the model's own.

        Raises:
            InputError: there is no such commit.
        """
        ...


class BM25Retriever:
    """Files by BM25, passages by a mix of their own score and their file's.

    Args:
        ranker: "fields" ranks by BM25 with fields, over files and their functions, and by what the issue points at.
            "rank_bm25" is that package's BM25Okapi over whole files and nothing else; it keeps nothing on disk.
        include_tests: rank test files too.
        suffixes: the files that are ranked; where a commit has none of them, every text file is.
        files: how many of the best files are cut into passages.
        own_share: how much of a passage's worth is its own score, the rest being its file's; 0 to 1.
        floor: passages worth less than this share of the best one are left out, room or not: a small model takes what
            it is shown for what is meant. 0 fills the budget.
        cache: what is worked out of blobs is kept there; None keeps nothing on disk.
        kept_bytes: how much of it is kept in memory for the next commit.
        reranker: orders the best passages again; none by default.

    Raises:
        InputError: there is no such ranker.
    """

    def __init__(
        self,
        *,
        ranker: Ranker = "fields",
        include_tests: bool = False,
        suffixes: Sequence[str] = (".py",),
        files: int = 10,
        own_share: float = 0.6,
        floor: float = 1 / 3,
        cache: TermCache | None = None,
        kept_bytes: int = 128_000_000,
        reranker: Reranker | None = None,
    ) -> None:
        if ranker not in get_args(Ranker):
            raise InputError(f"no ranker {ranker!r}: there are {' and '.join(get_args(Ranker))}")
        self.ranker = ranker
        self.include_tests = include_tests
        self.suffixes = tuple(suffixes)
        self.files = files
        self.own_share = own_share
        self.floor = floor
        self.reranker = reranker
        self._analyses = AnalysisStore(cache, kept_bytes)

    def retrieve(
        self, repo: Repository, commit: str, query: str, suspects: Sequence[str], budget: int, count: Count
    ) -> Retrieved:
        """The files and passages for `query` (an issue's text) at `commit` of `repo`, within `budget` tokens.

        `suspects` are names or paths that may matter. One that is written nowhere in the ranked files adds nothing.

        Raises:
            InputError: there is no such commit.
        """
        return self.search(repo, commit, query, suspects).pack(budget, count)

    def search(self, repo: Repository, commit: str, query: str, suspects: Sequence[str] = ()) -> Search:
        """What `retrieve` finds before any budget: pack it as often as you like.

        Raises:
            InputError: there is no such commit.
        """
        entries = self._eligible(repo.files(repo.resolve(commit)))
        by_ranker = self._by_fields if self.ranker == "fields" else self._by_rank_bm25
        search = by_ranker(repo, entries, query, suspects)
        if self.reranker is not None:
            search = replace(search, candidates=reranked(self.reranker, query, search.candidates, search.lines))
        return search

    def _eligible(self, entries: Iterable[FileEntry]) -> list[FileEntry]:
        """A name that cannot be seen, with a line break in it say, would speak in the prompt: it is left out."""
        entries = [e for e in entries if e.path.isprintable() and (self.include_tests or not is_test(e.path))]
        return [entry for entry in entries if entry.path.endswith(self.suffixes)] or entries

    def _corpus(self, repo: Repository, entries: Sequence[FileEntry]) -> tuple[Corpus, list[LeftOut]]:
        analyses = list(zip(entries, self._analyses.analyses(repo, entries), strict=True))
        readable = [(entry.path, one) for entry, one in analyses if not isinstance(one, str)]
        unread = [_unread(entry.path, one) for entry, one in analyses if isinstance(one, str)]
        return Corpus([path for path, _ in readable], [one for _, one in readable]), unread

    def _by_fields(self, repo: Repository, entries: Sequence[FileEntry], query: str, suspects: Sequence[str]) -> Search:
        corpus, unread = self._corpus(repo, entries)
        named = list(dict.fromkeys(name for suspect in suspects for name in identifiers(suspect)))
        known = corpus.known([*dict.fromkeys(name.lower() for name in named)])
        parsed = parse(query).with_names([name for name in named if name.lower() in known])
        signals = Signals(corpus, parsed)
        scores = signals.scores()
        order = np.argsort(-scores, kind="stable")[:_RANKED].tolist()  # the paths are sorted already
        ranked = [Ranked(path=corpus.paths[at], score=float(scores[at]), why=signals.why(at)) for at in order]
        found, lines = candidates.by_fields(
            self._best(repo, entries, ranked), signals, _scores(ranked), self.own_share, self.floor
        )
        return Search(_searched(query, suspect_terms(suspects, known)), ranked, found, lines, unread, signals)

    def _by_rank_bm25(
        self, repo: Repository, entries: Sequence[FileEntry], query: str, suspects: Sequence[str]
    ) -> Search:
        files = list(repo.read_entries(entries))
        unread = [_unread(file.path, file.reason or "") for file in files if file.text is None]
        index = Index({file.path: terms(f"{file.path}\n{file.text}") for file in files if file.text is not None})
        extra = suspect_terms(suspects, index)
        query_terms = terms(query) + extra
        ranked = index.rank(query_terms)[:_RANKED]
        found, lines = candidates.by_rank_bm25(
            self._best(repo, entries, ranked), query_terms, _scores(ranked), self.own_share, self.floor
        )
        return Search(_searched(query, extra), ranked, found, lines, unread)

    def _best(self, repo: Repository, entries: Sequence[FileEntry], ranked: Sequence[Ranked]) -> list[FileText]:
        by_path = {entry.path: entry for entry in entries}
        best = [by_path[one.path] for one in ranked[: self.files]]
        return [file for file in repo.read_entries(best) if file.text is not None]


def suspect_terms(suspects: Sequence[str], known: Container[str]) -> list[str]:
    """The query terms of `suspects`: each identifier in them once, and only where it is `known` as a whole.

    The words of an unknown name would match all over the place and drown the issue's own.
    """
    names = dict.fromkeys(name for suspect in suspects for name in identifiers(suspect) if name.lower() in known)
    return list(dict.fromkeys(term for name in names for term in split_identifier(name)))


def _scores(ranked: Sequence[Ranked]) -> dict[str, float]:
    return {one.path: one.score for one in ranked}


def _searched(query: str, extra: Sequence[str]) -> str:
    return "\n".join([query, *([" ".join(extra)] if extra else [])])


def _unread(path: str, why: str) -> LeftOut:
    return LeftOut(path=path, first_line=None, last_line=None, why=why)
