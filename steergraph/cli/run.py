"""`steergraph run` and `steergraph ask`: what is asked, the run folder, the engine, the live view, how it ended.

Knows the command line. How a run goes is `session`'s business, and the graph's.
"""

import argparse
import json
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steergraph.base.errors import InputError
from steergraph.cli.app import EXIT_FOUND, EXIT_NONE, Interrupted, version
from steergraph.cli.issues import add_issue_arguments, asked_issue

if TYPE_CHECKING:
    from steergraph.agents.run_config import Command


def add_parser(commands: Any) -> None:
    """Register both on the `add_subparsers()` object of the `steergraph` command."""
    _add_run(commands)
    _add_ask(commands)


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="an issue and a repository in, a checked patch out")
    add_issue_arguments(run)
    run.add_argument("--apply", action="store_true", help="put the checked patch into --repo's own tree")
    run.add_argument("--resume", metavar="RUN", help="go on with an interrupted run's folder")
    _add_common(run, "run")
    run.set_defaults(run=_run)


def _add_ask(commands: Any) -> None:
    ask = commands.add_parser("ask", help="a question in, an answer out, by the same graph")
    ask.add_argument("question", nargs="?", help="the question, or - for standard input")
    ask.add_argument("--choices", nargs="+", default=[], metavar="CHOICE", help="options, lettered from A")
    ask.add_argument("--examples", metavar="FILE", help="worked examples, a blank line between two")
    ask.add_argument("--resume", metavar="RUN", help="go on with an interrupted run's folder")
    _add_common(ask, "ask")
    ask.set_defaults(run=_ask)


def _add_common(parser: argparse.ArgumentParser, command: "Command") -> None:
    from steergraph.agents.run_config import RunConfig
    from steergraph.cli.options import add_flags

    add_flags(parser, RunConfig, command)
    parser.add_argument("--out", metavar="DIR", help="the run's folder (default: runs/TIME-NAME)")
    parser.add_argument("--state", metavar="URL", help="graph state in Postgres (or STEERGRAPH_STATE); default: SQLite")
    parser.add_argument("--json", action="store_true", help="print outcome.json instead of the live view")


def _run(arguments: argparse.Namespace) -> int:
    from steergraph.cli.run_folder import RunFolder

    if arguments.resume:
        return _drive(arguments, RunFolder.open(arguments.resume, _state(arguments)))
    return _drive(arguments, None, *_issue_input(arguments))


def _ask(arguments: argparse.Namespace) -> int:
    from steergraph.cli.run_folder import RunFolder

    if arguments.resume:
        return _drive(arguments, RunFolder.open(arguments.resume, _state(arguments)))
    from steergraph.cli.issues import read_examples, read_stdin

    question = read_stdin() if arguments.question == "-" else arguments.question
    if not question or not question.strip():
        raise InputError("the question is empty: give it as an argument, or - for standard input")
    examples = read_examples(arguments.examples) if arguments.examples else []
    if len(arguments.choices) == 1 or len(arguments.choices) > 10:
        raise InputError("--choices takes 2 to 10 options")
    task_input = {"kind": "reasoning", "problem": question, "choices": arguments.choices, "examples": examples}
    return _drive(arguments, None, "ask", task_input)


def _issue_input(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """A name for the run, and the graph's input."""
    from steergraph.agents.instances import task_of

    issue = asked_issue(arguments)
    repo, sha = _pinned(issue.repo, issue.commit)
    if issue.row is not None:
        task = task_of(issue.row, repo).model_copy(update={"base_commit": sha})
        return issue.row["instance_id"], task.model_dump(mode="json")
    task_input = {"kind": "issue", "problem": issue.text, "repo": repo, "base_commit": sha}
    return issue.text.strip().splitlines()[0][:40], task_input


def _pinned(source: str, commit: str | None) -> tuple[str, str]:
    """The source as a run may remember it (a path made absolute, a URL without credentials), and the full commit id.

    It is opened here, so that a wrong one is told before anything is written.
    """
    from steergraph.repo.git import redact
    from steergraph.repo.repository import Repository

    with Repository.open(source) as repository:
        sha = repository.resolve(commit)
    return str(Path(source).resolve()) if Path(source).exists() else redact(source), sha


def _drive(
    arguments: argparse.Namespace, folder: Any, name: str = "run", task_input: dict[str, Any] | None = None
) -> int:
    """Make or take the run folder, load the model, run, show, and say how it ended."""
    import transformers
    from rich.console import Console

    from steergraph.agents.driving import make_engine
    from steergraph.agents.policy import Policy
    from steergraph.agents.run_config import RunConfig
    from steergraph.agents.specialists import Roster
    from steergraph.cli.options import config_of
    from steergraph.cli.run_folder import RunFolder, run_record
    from steergraph.cli.session import changed_files, command_line, run
    from steergraph.cli.view import View
    from steergraph.sandbox.run import Sandbox

    state = _state(arguments)
    console = Console(stderr=arguments.json, highlight=False)
    view = View(console)
    if folder:
        record = folder.record
    else:
        config = config_of(arguments, RunConfig, arguments.command).anywhere()
        record = run_record(config, task_input or {}, state, command_line(arguments.argv))
    config = RunConfig.of_record(record, "run.json")
    repo = record["input"].get("repo") or "nowhere"
    if getattr(arguments, "apply", False) and not (Path(repo) / ".git").exists():
        raise InputError("--apply changes a working tree: give --repo the folder of a repository")
    if config.test:
        Sandbox.detect(unsafe=config.unsafe_tests)
    config.axes(Policy.load(config.policy))
    Roster.load(config.roster)
    transformers.logging.set_verbosity_error()
    with closing(make_engine(config)) as engine:
        info = engine.info
        folder = folder or RunFolder.create(arguments.out, name, record, state)
        view.line(
            f"steergraph {version()}  {info.name} ({info.architecture}, {info.n_layers} layers, window {info.window})"
            f"  preset {config.preset}  seed {config.seed}",
            "bold",
        )
        if info.name == "pocket":
            from steergraph.pocket import PURPOSE

            view.line(PURPOSE, "dim")
        try:
            outcome = run(folder, engine, (lambda event: None) if arguments.json else view.show)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; go on with: steergraph {arguments.command} --resume {folder.path}"
            ) from None
    if arguments.json:
        print(json.dumps(json.loads((folder.path / "outcome.json").read_text(encoding="utf-8")), indent=2))
    view.line(f"run      {folder.path}", "dim")
    found = outcome.status in ("patched", "answered")
    if found and getattr(arguments, "apply", False):
        from steergraph.agents.edits.apply import apply_to_tree
        from steergraph.repo.repository import Repository

        sha, files = changed_files(folder)
        apply_to_tree(Repository.open(repo), sha, Path(repo), files)
        view.line(f"applied  to {len(files)} file(s) of {repo}", "bold green")
    return EXIT_FOUND if found else EXIT_NONE


def _state(arguments: argparse.Namespace) -> str | None:
    """The URL that graph state is kept at; None: in the run's folder. Raises InputError for one that can't be."""
    from steergraph.agents.checkpoints import checked_url

    url = arguments.state or os.environ.get("STEERGRAPH_STATE")
    return checked_url(url) if url else None
