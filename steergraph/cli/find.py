"""`steergraph find`: the files and passages of a commit that an issue points at, and why each of them.

Knows the command line and the terminal. What is found is what the graph's retrieve node finds: the same call on the
same retriever. No model is loaded; a budget is counted in characters, four to a token, or by a tokenizer of one's own.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steergraph.cli.app import EXIT_FOUND, EXIT_NONE
from steergraph.cli.console import print_line
from steergraph.cli.issues import Commit, Instance, Issue, Repo, Swebench, asked_issue
from steergraph.cli.options import Json, Tokenizer
from steergraph.retrieval import Ranker

if TYPE_CHECKING:
    from steergraph.repo.contents import FileEntry
    from steergraph.retrieval.rank import Ranked
    from steergraph.retrieval.retriever import Retrieved

_NAMED = 3


def find(
    *,
    repo: Repo = None,
    commit: Commit = None,
    issue: Issue = None,
    swebench: Swebench = None,
    instance: Instance = None,
    suspect: Annotated[list[str] | None, typer.Option(metavar="NAME", help="a name or path that may matter")] = None,
    budget: Annotated[int, typer.Option(min=1, metavar="N", help="tokens of passages")] = 4000,
    tokenizer: Tokenizer = None,
    files: Annotated[int, typer.Option(min=1, metavar="N", help="files to show, 20 at most")] = 10,
    tests: Annotated[bool, typer.Option("--tests", help="rank test files too")] = False,
    ranker: Annotated[Ranker, typer.Option(help="how files are ranked")] = "fields",
    json: Json = False,
) -> int:
    """0 where something shares a term with the issue, 1 where nothing does."""
    from steergraph.evals.retrieval.measure import counter
    from steergraph.repo.repository import Repository
    from steergraph.retrieval.retriever import BM25Retriever
    from steergraph.retrieval.term_cache import TermCache

    asked = asked_issue(repo, commit, issue, swebench, instance)
    count = counter(tokenizer)
    with Repository.open(asked.repo) as repository:
        sha = repository.resolve(asked.commit)
        retriever = BM25Retriever(ranker=ranker, include_tests=tests, cache=TermCache())
        found = retriever.retrieve(repository, sha, asked.text, suspect or [], budget, count)
        unsearched = _unsearched(repository.files(sha))
        source = repository.source
    ranked = found.ranked[:files]
    if json:
        record = {"repo": source, "commit": sha, "budget": budget, **found.model_dump(mode="json")}
        record["ranked"] = [one.model_dump(mode="json") for one in ranked]
        print(dumps({**record, "unsearched": unsearched}, indent=2))
    else:
        print_line(f"{source} at {sha[:12]}", "bold")
        _show(found, ranked, budget, unsearched)
    # A score can be below zero where the files are few; what shares no term with the issue has none.
    return EXIT_FOUND if any(ranked.score != 0 for ranked in found.ranked) else EXIT_NONE


def _unsearched(entries: "Sequence[FileEntry]") -> dict[str, list[str]]:
    """Paths whose content cannot be searched, by the reason, as far as that shows without reading them."""
    from steergraph.repo.contents import why_no_text

    found: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if reason := why_no_text(entry):
            found[reason].append(entry.path)
    return dict(found)


def _show(found: "Retrieved", ranked: "Sequence[Ranked]", budget: int, unsearched: Mapping[str, Sequence[str]]) -> None:
    for number, file in enumerate(ranked, 1):
        print_line(f"{number:3d}  {file.score:8.2f}  {file.path}", "bold" if number == 1 else "")
        _show_why(file, "               ")
    for passage in found.passages:
        print_line("")
        print_line(f"{passage.path}:{passage.first_line}-{passage.last_line}  {passage.tokens} tokens", "bold green")
        _show_why(passage, "  ")
        print_line(passage.text)
    print_line("")
    print_line(f"{len(found.passages)} passages, {found.tokens} of {budget} tokens", "dim")
    for left in found.cut:
        lines = f":{left.first_line}-{left.last_line}" if left.first_line else ""
        print_line(f"left out  {left.path}{lines}: {left.why}", "dim")
    for reason, paths in unsearched.items():
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        print_line(f"not searched, {reason}: {', '.join(paths[:_NAMED])}{more}", "dim")


def _show_why(scored: Any, indent: str) -> None:
    for line in getattr(scored, "why", ()):
        print_line(f"{indent}{line}", "dim")
