"""`steergraph find`: the files and passages of a commit that an issue points at, and why each of them.

Knows the command line and the terminal. What is found is what the graph's retrieve node finds: the same call on the
same retriever. No model is loaded; a budget is counted in characters, four to a token, or by a tokenizer of one's own.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from steergraph.cli.app import EXIT_FOUND, EXIT_NONE
from steergraph.cli.issues import add_issue_arguments, asked_issue
from steergraph.retrieval import Ranker

if TYPE_CHECKING:
    from steergraph.cli.view import View
    from steergraph.repo.contents import FileEntry
    from steergraph.retrieval.retriever import Retrieved

_NAMED = 3


def add_parser(commands: Any) -> None:
    """Register it on the `add_subparsers()` object of the `steergraph` command."""
    find = commands.add_parser("find", help="an issue and a repository in, the files and passages that matter out")
    add_issue_arguments(find)
    find.add_argument("--suspect", action="append", default=[], metavar="NAME", help="a name or path that may matter")
    find.add_argument("--budget", type=_positive, default=4000, metavar="N", help="tokens of passages (default: 4000)")
    find.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json to count with (default: 4 characters each)")
    find.add_argument(
        "--files", type=_positive, default=10, metavar="N", help="files to show, 20 at most (default: 10)"
    )
    find.add_argument("--ranker", choices=get_args(Ranker), default="fields", help="how to rank (default: fields)")
    find.add_argument("--tests", action="store_true", help="rank test files too")
    find.add_argument("--json", action="store_true", help="print it all as JSON")
    find.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from steergraph.evals.retrieval.measure import counter
    from steergraph.repo.repository import Repository
    from steergraph.retrieval.retriever import BM25Retriever
    from steergraph.retrieval.term_cache import TermCache

    asked = asked_issue(arguments)
    count = counter(arguments.tokenizer)
    with Repository.open(asked.repo) as repository:
        sha = repository.resolve(asked.commit)
        retriever = BM25Retriever(ranker=arguments.ranker, include_tests=arguments.tests, cache=TermCache())
        found = retriever.retrieve(repository, sha, asked.text, arguments.suspect, arguments.budget, count)
        unsearched = _unsearched(repository.files(sha))
        shown = repository.source
    if arguments.json:
        print(json.dumps(_record(found, shown, sha, arguments, unsearched), indent=2))
    else:
        _show(found, shown, sha, arguments, unsearched)
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


def _record(
    found: "Retrieved", source: str, sha: str, arguments: argparse.Namespace, unsearched: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    record = found.model_dump(mode="json")
    record["ranked"] = record["ranked"][: arguments.files]
    return {"repo": source, "commit": sha, "budget": arguments.budget, **record, "unsearched": dict(unsearched)}


def _show(
    found: "Retrieved", source: str, sha: str, arguments: argparse.Namespace, unsearched: Mapping[str, Sequence[str]]
) -> None:
    from rich.console import Console

    from steergraph.cli.view import View

    view = View(Console(highlight=False))
    view.line(f"{source} at {sha[:12]}", "bold")
    for number, ranked in enumerate(found.ranked[: arguments.files], 1):
        view.line(f"{number:3d}  {ranked.score:8.2f}  {ranked.path}", "bold" if number == 1 else "")
        _show_why(view, ranked, "               ")
    for passage in found.passages:
        view.line("")
        view.line(f"{passage.path}:{passage.first_line}-{passage.last_line}  {passage.tokens} tokens", "bold green")
        _show_why(view, passage, "  ")
        view.line(passage.text)
    view.line("")
    view.line(f"{len(found.passages)} passages, {found.tokens} of {arguments.budget} tokens", "dim")
    for left in found.cut:
        lines = f":{left.first_line}-{left.last_line}" if left.first_line else ""
        view.line(f"left out  {left.path}{lines}: {left.why}", "dim")
    for reason, paths in unsearched.items():
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        view.line(f"not searched, {reason}: {', '.join(paths[:_NAMED])}{more}", "dim")


def _show_why(view: "View", scored: Any, indent: str) -> None:
    for line in getattr(scored, "why", ()):
        view.line(f"{indent}{line}", "dim")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError("a whole number above zero is needed")
    return int(text)
