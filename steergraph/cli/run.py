"""`steergraph run` and `steergraph ask`: what is asked, the run folder, the engine, the live view, how it ended.

Knows the command line. How a run goes is `session`'s business, and the graph's.
"""

import argparse
import json
import os
import uuid
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.cli.app import EXIT_FOUND, EXIT_NONE, Interrupted, version
from steergraph.cli.issues import add_issue_arguments, asked_issue


def add_parser(commands: Any) -> None:
    """Register both on the `add_subparsers()` object of the `steergraph` command."""
    _add_run(commands)
    _add_ask(commands)


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="an issue and a repository in, a checked patch out")
    add_issue_arguments(run)
    run.add_argument("--test", metavar="CMD", help="a command run in the sandbox before and after the patch")
    run.add_argument("--unsafe-tests", action="store_true", help="run it with limits only where no sandbox can be had")
    run.add_argument("--apply", action="store_true", help="put the checked patch into --repo's own tree")
    run.add_argument("--resume", metavar="RUN", help="go on with an interrupted run's folder")
    _add_common(run)
    run.set_defaults(run=_run)


def _add_ask(commands: Any) -> None:
    ask = commands.add_parser("ask", help="a question in, an answer out, by the same graph")
    ask.add_argument("question", nargs="?", help="the question, or - for standard input")
    ask.add_argument("--choices", nargs="+", default=[], metavar="CHOICE", help="options, lettered from A")
    ask.add_argument("--examples", metavar="FILE", help="worked examples, a blank line between two")
    ask.add_argument("--resume", metavar="RUN", help="go on with an interrupted run's folder")
    _add_common(ask)
    ask.set_defaults(run=_ask)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="pocket", help="pocket, a Hugging Face id, a folder, or http://HOST:PORT/v1#NAME"
    )
    parser.add_argument("--roster", metavar="FILE", help="specialists of your own, laid over the packaged ones")
    parser.add_argument("--vectors", metavar="DIR", help="a folder of vectors to speak with")
    parser.add_argument("--policy", metavar="FILE", help="a policy of your own, laid over the packaged one")
    parser.add_argument(
        "--router",
        choices=["rules", "model", "activation"],
        default="rules",
        help="who speaks: by rules, by the model's own word, or by its activations (default: rules)",
    )
    parser.add_argument("--preset", default="auto", help="auto, baseline, static, dynamic, rag_* (default: auto)")
    parser.add_argument("--steering", choices=["none", "static", "dynamic"], help="replaces the preset's")
    parser.add_argument("--retrieval", choices=["on", "off"], help="replaces the preset's")
    parser.add_argument("--gate", choices=["on", "off"], help="replaces the preset's")
    parser.add_argument("--max-seconds", type=_positive, default=0.0, metavar="S", help="0: no limit")
    parser.add_argument("--max-tokens", type=_count, default=0, metavar="N", help="completion tokens; 0: no limit")
    parser.add_argument("--max-repairs", type=_count, default=None, metavar="N", help="repair rounds (default: 3)")
    parser.add_argument("--thinking", action="store_true", help="let the model think before it answers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", metavar="DIR", help="the run's folder (default: runs/TIME-NAME)")
    parser.add_argument("--state", metavar="URL", help="graph state in Postgres (or STEERGRAPH_STATE); default: SQLite")
    parser.add_argument("--json", action="store_true", help="print outcome.json instead of the live view")


def _run(arguments: argparse.Namespace) -> int:
    from steergraph.cli.run_folder import RunFolder

    if arguments.resume:
        return _drive(arguments, RunFolder.open(arguments.resume, _state(arguments)))
    name, given = _issue_input(arguments)
    return _drive(arguments, None, name, given)


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
    given = {"kind": "reasoning", "problem": question, "choices": arguments.choices, "examples": examples}
    return _drive(arguments, None, "ask", given)


def _issue_input(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """A name for the run, and the graph's input."""
    from steergraph.agents.instances import task_of

    asked = asked_issue(arguments)
    repo, sha = _pinned(asked.repo, asked.commit)
    if asked.row is not None:
        task = task_of(asked.row, repo).model_copy(update={"base_commit": sha})
        return asked.row["instance_id"], task.model_dump(mode="json")
    given = {"kind": "issue", "problem": asked.text, "repo": repo, "base_commit": sha}
    return asked.text.strip().splitlines()[0][:40], given


def _pinned(source: str, commit: str | None) -> tuple[str, str]:
    """The source as a run may remember it (a path made absolute, a URL without credentials), and the full commit id.

    It is opened here, so that a wrong one is told before anything is written.
    """
    from steergraph.repo.git import redact
    from steergraph.repo.repository import Repository

    with Repository.open(source) as repository:
        sha = repository.resolve(commit)
    return str(Path(source).resolve()) if Path(source).exists() else redact(source), sha


def _drive(arguments: argparse.Namespace, folder: Any, name: str = "run", given: dict[str, Any] | None = None) -> int:
    """Make or take the run folder, load the model, run, show, and say how it ended."""
    import transformers
    from rich.console import Console

    from steergraph.agents.policy import Policy
    from steergraph.agents.specialists import Roster
    from steergraph.cli.run_folder import RunFolder
    from steergraph.cli.session import changed_files, command_line, run
    from steergraph.cli.view import View
    from steergraph.engine.opening import open_engine
    from steergraph.engine.steering.directions import check_fits
    from steergraph.sandbox.run import Sandbox

    state = _state(arguments)
    console = Console(stderr=arguments.json, highlight=False)
    view = View(console)
    asked = folder.asked if folder else _asked(arguments, given or {}, command_line(arguments.argv))
    tree = Path(asked["input"].get("repo") or "nowhere")
    if getattr(arguments, "apply", False) and not (tree / ".git").exists():
        raise InputError("--apply changes a working tree: give --repo the folder of a repository")
    if asked["context"]["test"]:
        Sandbox.detect(unsafe=asked["context"]["unsafe_tests"])
    Policy.load(asked["policy"]).axes(asked["context"]["preset"])
    roster = Roster.load(asked["roster"])
    transformers.logging.set_verbosity_error()
    with open_engine(asked["model"], _library(asked["vectors"])) as engine:
        info = engine.info
        roster.check(info)
        for vector in engine.library.values():
            check_fits(vector, info)
        folder = folder or RunFolder.create(arguments.out, name, asked, state)
        view.line(
            f"steergraph {version()}  {info.name} ({info.architecture}, {info.n_layers} layers, window {info.window})"
            f"  preset {asked['context']['preset']}  seed {asked['context']['seed']}",
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
        apply_to_tree(Repository.open(asked["input"]["repo"]), sha, Path(asked["input"]["repo"]), files)
        view.line(f"applied  to {len(files)} file(s) of {asked['input']['repo']}", "bold green")
    return EXIT_FOUND if found else EXIT_NONE


def _state(arguments: argparse.Namespace) -> str | None:
    """The URL that graph state is kept at; None: in the run's folder. Raises InputError for one that can't be."""
    from steergraph.agents.checkpoints import checked_url

    url = arguments.state or os.environ.get("STEERGRAPH_STATE")
    return checked_url(url) if url else None


def _asked(arguments: argparse.Namespace, given: dict[str, Any], command: str) -> dict[str, Any]:
    from steergraph.agents.checkpoints import shown
    from steergraph.repo.git import redact

    state = _state(arguments)
    test = getattr(arguments, "test", None)
    return {
        "model": str(Path(arguments.model).resolve()) if Path(arguments.model).is_dir() else arguments.model,
        "roster": _absolute(arguments.roster),
        "vectors": _absolute(arguments.vectors),
        "policy": _absolute(arguments.policy),
        "router": arguments.router,
        "input": given,
        "context": {
            "preset": arguments.preset,
            "steering": arguments.steering,
            "retrieval": arguments.retrieval,
            "gate": arguments.gate,
            "test": test,
            "unsafe_tests": getattr(arguments, "unsafe_tests", False),
            "max_seconds": arguments.max_seconds,
            "max_tokens": arguments.max_tokens,
            "max_repairs": arguments.max_repairs,
            "seed": arguments.seed,
            "thinking": arguments.thinking,
        },
        "state": shown(state) if state else None,
        "thread": uuid.uuid4().hex if state else "run",
        "command": redact(_without(command, state, shown(state)) if state else command),
    }


def _without(command: str, url: str, shown: str) -> str:
    """A quoted command line with `shown` in the place of `url`, however the shell's quotes split that."""
    return command.replace(url, shown).replace(url.replace("'", "'\"'\"'"), shown)


def _absolute(path: str | None) -> str | None:
    """A run may be resumed from another folder."""
    return str(Path(path).resolve()) if path else None


def _library(folder: str | None) -> Any:
    from steergraph.vectors.library import Library

    return Library.open(Path(folder)) if folder else None


def _positive(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1_000_000_000:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value
