"""`steergraph run` and `steergraph ask`: what is asked, the run folder, the engine, the live view, how it ended.

Knows the command line. How a run goes is the graph's business.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steergraph.agents.run_config import RunConfig
from steergraph.base.errors import InputError
from steergraph.cli.app import EXIT_FOUND, EXIT_NONE, Interrupted
from steergraph.cli.flags import need_resume_alone, told
from steergraph.cli.issues import Commit, Instance, Issue, Repo, Swebench, asked_issue, read_examples, read_stdin
from steergraph.cli.options import State

if TYPE_CHECKING:
    from steergraph.cli.run_folder import RunFolder

Out = Annotated[str | None, typer.Option(metavar="DIR", help="the run's folder (default: runs/TIME-NAME)")]
Resume = Annotated[str | None, typer.Option(metavar="RUN", help="go on with an interrupted run's folder")]
Json = Annotated[bool, typer.Option("--json", help="print outcome.json instead of the live view")]


@told("run")
def run(
    ctx: typer.Context,
    config: RunConfig,
    *,
    repo: Repo = None,
    commit: Commit = None,
    issue: Issue = None,
    swebench: Swebench = None,
    instance: Instance = None,
    apply: Annotated[bool, typer.Option("--apply", help="put the checked patch into --repo's own tree")] = False,
    resume: Resume = None,
    out: Out = None,
    state: State = None,
    json: Json = False,
) -> int:
    """0 where there is a checked patch, 1 where there is none; or with --require-test, none that a test vouches for."""
    from steergraph.cli.run_folder import RunFolder, need_free, run_record

    state = _checked(state)
    if resume:
        need_resume_alone(ctx, "state", "apply", "json")
        return _go_on("run", RunFolder.open(resume, state), apply=apply, as_json=json)
    need_free(out)
    found = asked_issue(repo, commit, issue, swebench, instance)
    place, sha = _pinned(found.repo, found.commit)
    if found.row is None:
        name = found.text.strip().splitlines()[0][:40]
        task_input: dict[str, Any] = {"kind": "issue", "problem": found.text, "repo": place, "base_commit": sha}
    else:
        from steergraph.agents.instances import task_of

        name = found.row["instance_id"]
        task_input = task_of({**found.row, "base_commit": sha}, place).model_dump(mode="json")
    record = run_record(config.anywhere(), task_input, state, ctx.obj)
    return _drive("run", record, lambda: RunFolder.create(out, name, record, state), apply=apply, as_json=json)


@told("ask")
def ask(
    ctx: typer.Context,
    config: RunConfig,
    question: Annotated[str | None, typer.Argument(help="the question, or - for standard input")] = None,
    *,
    choices: Annotated[list[str] | None, typer.Option(metavar="CHOICE", help="options, lettered from A")] = None,
    examples: Annotated[
        str | None, typer.Option(metavar="FILE", help="worked examples, a blank line between two")
    ] = None,
    resume: Resume = None,
    out: Out = None,
    state: State = None,
    json: Json = False,
) -> int:
    """0 where there is an answer, 1 where there is none."""
    from steergraph.cli.run_folder import RunFolder, need_free, run_record

    state = _checked(state)
    if resume:
        need_resume_alone(ctx, "state", "json")
        return _go_on("ask", RunFolder.open(resume, state), as_json=json)
    need_free(out)
    problem = read_stdin() if question == "-" else question
    if not problem or not problem.strip():
        raise InputError("the question is empty: give it as an argument, or - for standard input")
    worked = read_examples(examples) if examples else []
    if choices and not 2 <= len(choices) <= 10:
        raise InputError("--choices takes 2 to 10 options")
    task_input = {"kind": "reasoning", "problem": problem, "choices": choices or [], "examples": worked}
    record = run_record(config.anywhere(), task_input, state, ctx.obj)
    return _drive("ask", record, lambda: RunFolder.create(out, "ask", record, state), as_json=json)


def _checked(state: str | None) -> str | None:
    """The URL that graph state is kept at; None: in the run's folder. Raises InputError for one that can't be, or that
    nothing answers at."""
    from steergraph.agents.checkpoints import checked_url, open_checkpoints

    if not state:
        return None
    checked = checked_url(state)
    with open_checkpoints(checked):
        return checked


def _pinned(source: str, commit: str | None) -> tuple[str, str]:
    """The source as a run may remember it (a path made absolute, a URL without credentials), and the full commit id.

    It is opened here, so that a wrong one is told before anything is written.
    """
    from steergraph.repo.git import redact
    from steergraph.repo.repository import Repository

    with Repository.open(source) as repository:
        sha = repository.resolve(commit)
    return str(Path(source).resolve()) if Path(source).exists() else redact(source), sha


def _go_on(command: str, folder: "RunFolder", *, apply: bool = False, as_json: bool) -> int:
    return _drive(command, folder.record, lambda: folder, apply=apply, as_json=as_json)


def _drive(
    command: str, record: Mapping[str, Any], folder_of: "Callable[[], RunFolder]", *, apply: bool = False, as_json: bool
) -> int:
    """Load the model, make or take the run folder, run, show, and say how it ended."""
    from steergraph.agents.driving import closing_on_interrupt, drive, make_engine, services_of
    from steergraph.agents.edits.apply import apply_to_tree, need_work_tree
    from steergraph.agents.graph import graph_builder
    from steergraph.agents.policy import Policy
    from steergraph.agents.state import PATCHED
    from steergraph.base.versions import version_of
    from steergraph.cli.console import console
    from steergraph.cli.view import View
    from steergraph.sandbox.run import Sandbox

    view = View(console(errors=as_json))
    config = RunConfig.of_record(record, "run.json")
    repo = record["input"].get("repo") or "nowhere"
    if apply:
        need_work_tree(Path(repo))
    if config.test:
        Sandbox.detect(unsafe=config.unsafe_tests)
    config.axes(Policy.load(config.policy))
    import transformers  # it takes seconds: what can be refused is refused before

    transformers.logging.set_verbosity_error()
    with closing(make_engine(config)) as engine:
        info, services = engine.info, services_of(config, engine)
        folder = folder_of()
        view.line(
            f"steergraph {version_of()}  {info.name} ({info.architecture}, {info.n_layers} layers, window "
            f"{info.window})  preset {config.preset}  seed {config.seed}",
            "bold",
        )
        if info.name == "pocket":
            from steergraph.pocket import PURPOSE

            view.line(PURPOSE, "dim")
        show = (lambda event: None) if as_json else view.show
        try:
            with folder.locked(), folder.checkpointer() as saver, closing_on_interrupt(engine):
                graph = graph_builder(services).compile(checkpointer=saver, name="steergraph")
                values = drive(graph, folder.thread, record["input"], config, folder.append_trace, show)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; go on with: steergraph {command} --resume {folder.path}") from None
        outcome = folder.keep_outcome(values, services.policy, info)
    if not view.ended and not as_json:
        view.line("the run had ended before:")
        view.show({"event": "answer", "answer": outcome.answer, "how": "as before"})
        view.show({"event": "outcome", "status": outcome.status})
    if as_json:
        print(json.dumps(json.loads((folder.path / "outcome.json").read_text(encoding="utf-8")), indent=2))
    view.line(f"run      {folder.path}", "dim")
    refused = config.require_test and outcome.status == "patched_untested"
    found = outcome.status in (*PATCHED, "answered") and not refused
    if found and apply:
        from steergraph.repo.repository import Repository

        files = (values.get("candidate") or {}).get("files", {})
        apply_to_tree(Repository.open(repo), values["task"]["base_commit"], Path(repo), files)
        view.line(f"applied  to {len(files)} file(s) of {repo}", "bold green")
    if outcome.untested:
        required = "; --require-test takes that for none" if refused else ""
        view.line(f"untested  nothing shows that this patch repairs it: {outcome.untested}{required}", "bold yellow")
    return EXIT_FOUND if found else EXIT_NONE
