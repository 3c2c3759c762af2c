"""What a model was shown of a repository when it wrote its edits, and how the rest of it can be read."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from steergraph.repo.repository import Repository


class Shown(NamedTuple):
    """The view of a repository that an answer is read against."""

    paths: Collection[str]
    """Every file of the repository."""
    files: Mapping[str, Sequence[tuple[int, int]]]
    """The files that were in the prompt, best first: (first line, last line), 1-based, of what was shown of each."""
    read: Callable[[str], str | None]
    """A file's text, None where there is none; raises ValueError or OSError for one that can't be edited."""


def shown_at(repository: Repository, sha: str, passages: Iterable[Mapping[str, Any]]) -> Shown:
    """The repository at a commit, of which `passages` (path, first_line, last_line) were in the prompt."""
    files: dict[str, list[tuple[int, int]]] = {}
    for passage in passages:
        files.setdefault(passage["path"], []).append((passage["first_line"], passage["last_line"]))
    known = {entry.path for entry in repository.files(sha)}

    def read(path: str) -> str | None:
        file = repository.read(sha, path)
        if file.text is None and path in known:
            raise ValueError(file.reason or "it is not text")
        return file.text

    return Shown(sorted(known), files, read)
