"""The example repository's issues, end to end: `python -m steergraph.evals.example_issues [--model pocket]`.

Each issue goes through the whole graph: retrieval, specialists, edit, the visible test in the sandbox, bounded repairs.
What comes out is judged by the hidden test, which no run is shown, in the sandbox too. `resolved` means that both pass.
Exit code 0 where at least `--least` are resolved, else 1. Knows examples/ and the graph.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from steergraph.agents.graph import build_graph
from steergraph.agents.run_config import Context
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.configs import load_yaml
from steergraph.engine.protocol import Engine, WeightType
from steergraph.repo.repository import Repository
from steergraph.sandbox.run import Sandbox


class ExampleIssue(Frozen):
    """One planted defect: what a user reported, the visible test, and the hidden one."""

    name: str
    text: str
    test: str
    hidden: Path


class Resolved(Frozen):
    """What became of one issue."""

    name: str
    status: str
    visible: bool
    """The patch applies, and the visible test passes with it."""
    hidden: bool
    found: int | None
    """Rank of the defective file in what retrieval found; None where it isn't there, or nothing was searched."""
    repairs: int
    seconds: float

    @property
    def resolved(self) -> bool:
        return self.visible and self.hidden


def load_examples(folder: Path) -> list[ExampleIssue]:
    """The issues of examples/issues.yaml. Raises InputError where the folder is not the examples'."""
    try:
        table = load_yaml(folder / "issues.yaml")["issues"]
        for name in ("pantry.bundle", *(entry["hidden"] for entry in table)):
            (folder / name).open("rb").close()
        issues = [
            ExampleIssue(
                name=entry["name"],
                text=(folder / entry["issue"]).read_text(encoding="utf-8-sig"),
                test=entry["test"],
                hidden=folder / entry["hidden"],
            )
            for entry in table
        ]
        if not issues:
            raise ValueError("issues.yaml has no issue")
        return issues
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: not the folder of examples ({error}); clone the repository for it") from error


def resolve(issue: ExampleIssue, graph: Any, bundle: Path, context: Context, sandbox: Sandbox) -> Resolved:
    """Send one issue through the compiled `graph`, and judge what comes out. Raises InputError as a run does."""
    values = graph.invoke({"problem": issue.text, "repo": str(bundle)}, context=context)
    ranked = [Path(path).stem for path in values.get("files_found") or []]
    patch = values.get("patch")
    return Resolved(
        name=issue.name,
        status=values["status"],
        visible=bool(patch),
        hidden=bool(patch) and hidden_passes(issue, bundle, patch, sandbox),
        found=ranked.index(issue.name) + 1 if issue.name in ranked else None,
        repairs=max((step["attempt"] for step in values["steps"]), default=0),
        seconds=values["seconds"],
    )


def hidden_passes(issue: ExampleIssue, bundle: Path, patch: str, sandbox: Sandbox) -> bool:
    """Whether the hidden test passes on a clean copy with `patch` applied."""
    with (
        Repository.open(bundle) as repository,
        tempfile.TemporaryDirectory(prefix="steergraph-") as folder,
        repository.working_copy(repository.resolve(), Path(folder) / "copy") as copy,
    ):
        copy.git("apply", "--whitespace=nowarn", "-", input=patch.encode())
        shutil.copy(issue.hidden, copy.path / "tests" / "test_hidden.py")
        return sandbox.run("python -m unittest tests.test_hidden", copy.path, timeout_s=60).exit_code == 0


def run_examples(
    engine: Engine,
    folder: Path,
    *,
    preset: str = "auto",
    max_repairs: int | None = None,
    seed: int = 0,
    candidates: int = 1,
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> list[Resolved]:
    """Every example issue, or those named in `only`, one after the other; `say` gets a line for each as it comes.

    Raises InputError where `only` names one that is not there.
    """
    issues = load_examples(folder)
    for name in set(only) - {issue.name for issue in issues}:
        raise InputError(f"no example issue called {name!r}: there are {', '.join(issue.name for issue in issues)}")
    issues = [issue for issue in issues if not only or issue.name in only]
    sandbox = Sandbox.detect()
    graph = build_graph(engine=engine)
    found = []
    for issue in issues:
        context = Context(preset=preset, max_repairs=max_repairs, test=issue.test, seed=seed, candidates=candidates)
        one = resolve(issue, graph, folder / "pantry.bundle", context, sandbox)
        found.append(one)
        say(
            f"{one.name:10} {'resolved' if one.resolved else 'not resolved':13} {one.status:19} "
            f"hidden test {'passes' if one.hidden else 'fails':7} file found {one.found or '-':>2}  "
            f"repairs {one.repairs}  {one.seconds:.0f} s"
        )
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help shows what it takes)")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _Parser(prog="python -m steergraph.evals.example_issues", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("issues", nargs="*", metavar="ISSUE", help="names of issues; all where left out")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--examples", type=Path, default=Path("examples"), help="the folder (default: examples)")
    parser.add_argument("--weights", default="auto", choices=get_args(WeightType), help="how the model's are held")
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--max-repairs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the repairs, which sample")
    parser.add_argument("--candidates", type=int, default=1, help="edits drawn at once for each patch")
    parser.add_argument("--least", type=int, default=0, help="how many have to be resolved for exit code 0")
    from steergraph.engine.local import LocalEngine

    try:
        given = parser.parse_args(arguments)
        if given.max_repairs < 0:
            raise InputError(f"--max-repairs {given.max_repairs}: 0 or more")
        with LocalEngine(given.model, weights=given.weights) as engine:
            found = run_examples(
                engine,
                given.examples,
                preset=given.preset,
                max_repairs=given.max_repairs,
                seed=given.seed,
                candidates=given.candidates,
                only=given.issues,
                say=print,
            )
    except InputError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    resolved = sum(one.resolved for one in found)
    print(
        f"{resolved} of {len(found)} resolved: edited, visible and hidden test pass in the sandbox; "
        f"the file found in {sum(one.found is not None for one in found)}"
    )
    return 0 if resolved >= given.least else 1


if __name__ == "__main__":
    raise SystemExit(main())
