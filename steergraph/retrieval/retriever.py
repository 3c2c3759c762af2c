"""From an issue to the passages that matter: rank the files of a commit, rank the pieces of the best, pack them.

Knows the repository at one commit, terms and scores. Knows nothing of models: how many tokens a text has is asked of
`count`. Nothing from after the commit is read.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from steergraph.retrieval.contents import FileEntry
from steergraph.retrieval.pack import Candidate, Count, LeftOut, Passage, pack
from steergraph.retrieval.passages import pieces, split_lines
from steergraph.retrieval.rank import Index, Ranked
from steergraph.retrieval.repository import Repository
from steergraph.retrieval.terms import identifiers, split_identifier, terms

_RANKED = 20
_TEST_WORDS = {"test", "tests", "testing"}


class Retrieved(BaseModel):
    """What was searched for, what was found, and what of it fits. JSON-able."""

    model_config = ConfigDict(frozen=True)

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


class Retriever(Protocol):
    def retrieve(
        self, repo: Repository, commit: str, query: str, suspects: Sequence[str], budget: int, count: Count
    ) -> Retrieved: ...


def is_test(path: str) -> bool:
    """SWE-bench's rule, on the path inside the repository: one of its words is test, tests or testing."""
    return not _TEST_WORDS.isdisjoint(re.split(r"[ _/.]", path.lower()))


class BM25Retriever:
    """Files by BM25 over identifiers and their words; passages by a mix of their own BM25 and their file's.

    Args:
        include_tests: rank test files too.
        suffixes: the files that are ranked; where a commit has none of them, every text file is.
        files: how many of the best files are cut into passages.
        own_share: how much of a passage's worth is its own score, the rest being its file's; 0 to 1.
        floor: passages worth less than this share of the best one are left out, room or not: a small model takes what
            it is shown for what is meant. 0 fills the budget.
        kept_terms: how many terms of files are kept in memory for the next commit.
    """

    def __init__(
        self,
        *,
        include_tests: bool = False,
        suffixes: Sequence[str] = (".py",),
        files: int = 10,
        own_share: float = 0.6,
        floor: float = 1 / 3,
        kept_terms: int = 20_000_000,
    ) -> None:
        self.include_tests = include_tests
        self.suffixes = tuple(suffixes)
        self.files = files
        self.own_share = own_share
        self.floor = floor
        self.kept_terms = kept_terms
        self._terms: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def retrieve(
        self, repo: Repository, commit: str, query: str, suspects: Sequence[str], budget: int, count: Count
    ) -> Retrieved:
        """The files and passages for `query` (an issue's text) at `commit` of `repo`, within `budget` tokens.

        `suspects` are names or paths that may matter. One that is written nowhere in the ranked files adds nothing.
        Raises InputError for an unknown commit.
        """
        sha = repo.resolve(commit)
        entries = {entry.path: entry for entry in self._eligible(repo.files(sha))}
        documents, unread = self._documents(repo, list(entries.values()))
        index = Index(documents)
        extra = suspect_terms(suspects, index)
        asked = terms(query) + extra
        ranked = index.rank(asked)[:_RANKED]
        candidates, lines = self._candidates(repo, [entries[r.path] for r in ranked[: self.files]], ranked, asked)
        passages, tokens, cut = pack(candidates, lines, budget, count)
        return Retrieved(
            query="\n".join([query, *([" ".join(extra)] if extra else [])]),
            ranked=tuple(ranked),
            passages=passages,
            tokens=tokens,
            cut=(*cut, *unread[:_RANKED]),
        )

    def _eligible(self, entries: Iterable[FileEntry]) -> list[FileEntry]:
        """A name that cannot be seen, with a line break in it say, would speak in the prompt: it is left out."""
        entries = [e for e in entries if e.path.isprintable() and (self.include_tests or not is_test(e.path))]
        return [entry for entry in entries if entry.path.endswith(self.suffixes)] or entries

    def _documents(
        self, repo: Repository, entries: Sequence[FileEntry]
    ) -> tuple[dict[str, Sequence[str]], list[LeftOut]]:
        """The terms of every readable file, and those that are not readable."""
        with self._lock:
            known = {e.blob: self._terms[e.blob] for e in entries if e.kind == "file" and e.blob in self._terms}
            for blob in known:
                self._terms.move_to_end(blob)
        missing = [entry for entry in entries if entry.kind != "file" or entry.blob not in known]
        unread: list[LeftOut] = []
        for entry, read in zip(missing, repo.read_entries(missing), strict=True):
            if read.text is None:
                unread.append(LeftOut(path=entry.path, first_line=None, last_line=None, why=read.reason or ""))
            else:
                known[entry.blob] = tuple(terms(read.text))
                self._keep(entry.blob, known[entry.blob])
        unreadable = {left.path for left in unread}
        return {e.path: [*terms(e.path), *known[e.blob]] for e in entries if e.path not in unreadable}, unread

    def _keep(self, blob: str, found: tuple[str, ...]) -> None:
        with self._lock:
            if blob not in self._terms:
                self._terms[blob] = found
                self._held += len(found)
            while self._held > self.kept_terms and self._terms:
                self._held -= len(self._terms.popitem(last=False)[1])

    def _candidates(
        self, repo: Repository, best: Sequence[FileEntry], ranked: Sequence[Ranked], asked: Sequence[str]
    ) -> tuple[list[Candidate], dict[str, list[str]]]:
        """Every piece of the best files, best first, and those files' lines."""
        read = [file for file in repo.read_entries(best) if file.text is not None]
        lines = {file.path: split_lines(file.text or "") for file in read}
        found = {
            f"{at:05d} {number:05d}": (file.path, piece)
            for at, file in enumerate(read)
            for number, piece in enumerate(pieces(file.path, file.text or ""))
        }
        words = {path: [terms(line) for line in of_file] for path, of_file in lines.items()}
        index = Index(
            {
                key: [*terms(piece.name), *(t for line in words[path][piece.first - 1 : piece.last] for t in line)]
                for key, (path, piece) in found.items()
            }
        )
        own = {document.path: document.score for document in index.rank(asked)}
        of_file = {document.path: document.score for document in ranked}
        best_own, best_file = (max([1e-9, *scores.values()]) for scores in (own, of_file))
        wanted = set(asked)
        candidates = [
            Candidate(
                path=path,
                piece=piece,
                score=self.own_share * own[key] / best_own + (1 - self.own_share) * of_file[path] / best_file,
                weights=[
                    sum(index.idf(term) for term in wanted.intersection(line))
                    for line in words[path][piece.first - 1 : piece.last]
                ],
            )
            for key, (path, piece) in found.items()
        ]
        # Okapi's scores can be negative where the files are few: then nothing is a share of the best.
        most = max((c.score for c in candidates), default=0.0)
        least = self.floor * most if most > 0 else float("-inf")
        return sorted((c for c in candidates if c.score >= least), key=lambda c: -c.score), lines


def suspect_terms(suspects: Sequence[str], index: Index) -> list[str]:
    """The query terms of `suspects`: each identifier in them once, and only where the index knows it as a whole.

    The words of an unknown name would match all over the place and drown the issue's own.
    """
    names = dict.fromkeys(name for suspect in suspects for name in identifiers(suspect) if name.lower() in index)
    return list(dict.fromkeys(term for name in names for term in split_identifier(name)))
