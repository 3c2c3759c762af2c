"""`steergraph eval`: grade predictions, or find out what can be graded here. Knows the command line and printing."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.base.folders import cache_folder
from steergraph.base.text import printable
from steergraph.cli.options import Repos

if TYPE_CHECKING:
    from steergraph.evals.grading.rows import Prediction, Row
    from steergraph.evals.grading.verdict import Verdict

_NOTES = 20


def grade(
    *,
    predictions: Annotated[
        str | None, typer.Option(metavar="FILE", help=".jsonl or .json, as the official harness takes them")
    ] = None,
    gold: Annotated[
        bool, typer.Option("--gold", help="the dataset's own patches: what can be graded here, and why not")
    ] = False,
    controls: Annotated[
        bool,
        typer.Option("--controls", help="gold, a patch that changes nothing, and garbage, for each instance"),
    ] = False,
    dataset: Annotated[
        list[str], typer.Option(metavar="FILE|NAME", help="with swebench 5's columns; a name on the hub too")
    ],
    executor: Annotated[Literal["sandbox", "docker"], typer.Option(help="where tests run")] = "sandbox",
    instances: Annotated[list[str] | None, typer.Option(metavar="ID", help="these only")] = None,
    repos: Repos = None,
    environments: Annotated[
        str | None, typer.Option(metavar="DIR", help="pinned conda exports (default: beside the dataset)")
    ] = None,
    specs: Annotated[
        str | None, typer.Option(metavar="FILE", help="table of repository versions (default: beside the dataset)")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="DIR", help="where environments are kept (default: in steergraph's cache)")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="ask no package index: use environments that are there")
    ] = False,
    run_id: Annotated[str, typer.Option(metavar="ID", help="names the log folder; again: goes on")] = "eval",
    out: Annotated[str, typer.Option(metavar="DIR", help="logs/run_evaluation and the reports")] = ".",
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="instances at a time")] = 1,
    timeout: Annotated[int, typer.Option(min=1, metavar="S", help="for one test run")] = 1800,
    memory_mb: Annotated[int, typer.Option(min=1, metavar="MB", help="of a process")] = 4096,
) -> int:
    """Grade, print a line for each prediction and the sums. 0 where something was graded, 1 where nothing was."""
    from steergraph.evals.grading.rows import gold_predictions, read_predictions, read_rows

    if sum((predictions is not None, gold, controls)) != 1:
        raise InputError("give one of --predictions FILE, --gold and --controls")
    rows = read_rows(dataset, images=executor == "docker")
    if unknown := [name for name in instances or () if name not in rows]:
        raise InputError(f"--instances {unknown[0]}: no such instance in {', '.join(dataset)}")
    chosen = {name: row for name, row in rows.items() if not instances or name in instances}
    notes: list[str] = []
    if predictions is not None:
        given, notes = read_predictions(Path(predictions), rows)
        given = [each for each in given if each.instance_id in chosen]
    else:
        given = control_predictions(chosen.values()) if controls else gold_predictions(chosen.values())
    for note in notes[:_NOTES]:
        print(f"note: {printable(note)}")
    if len(notes) > _NOTES:
        print(f"note: and {len(notes) - _NOTES} more")
    if not given:
        raise InputError("--instances: there is no prediction for any of them")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if executor == "docker":
        return _with_docker(given, rows, folder, run_id, jobs=jobs, timeout_s=timeout)
    from steergraph.evals.grading.grade import Grader, Places
    from steergraph.evals.grading.pins import Pins
    from steergraph.evals.grading.sandbox import Bounds
    from steergraph.evals.swebench.repos import Repos as Repositories
    from steergraph.sandbox.run import Sandbox

    first = Path(dataset[0])
    pins = Pins.beside(first, *(Path(name) if name else None for name in (environments, specs)))
    kept = Path(cache) if cache else cache_folder() / "environments"
    places = Places(repos=Repositories(repos), cache=kept.absolute(), out=folder.absolute(), fetch=not offline)
    bounds = Bounds(timeout_s=timeout, memory_mb=memory_mb)
    done = count(1)

    def tell(verdict: "Verdict") -> None:
        where = f"{next(done)}/{len(given)} {verdict.instance_id} [{verdict.model}]"
        print(printable(f"{where}: {verdict.line} ({verdict.seconds:.1f} s)"), flush=True)

    with Grader(rows, pins, places, Sandbox.detect(), bounds, run_id) as grader:
        verdicts = grader.grade_all(given, jobs, tell, end_children=True)
        source = first.absolute()
        if len(dataset) > 1 or not source.is_file():
            source = grader.logs / "dataset.jsonl"
            columns = [rows[name].columns for name in sorted({each.instance_id for each in given})]
            write_whole(source, "".join(json.dumps(row, default=str) + "\n" for row in columns))
        reports = grader.summarise(verdicts, given, source)
    print()
    for line in (*sums(verdicts, controls), *(f"wrote {path}" for path in reports)):
        print(printable(line))
    return 0 if any(verdict.verdict != "ungraded" for verdict in verdicts) else 1


def control_predictions(rows: Any) -> "list[Prediction]":
    """For each row the gold patch, a patch that only adds a file, and one that applies nowhere."""
    from steergraph.evals.grading.rows import Prediction, gold_predictions

    nothing = (
        "diff --git a/NOTES-no-op.txt b/NOTES-no-op.txt\nnew file mode 100644\n--- /dev/null\n"
        "+++ b/NOTES-no-op.txt\n@@ -0,0 +1 @@\n+nothing is changed\n"
    )
    garbage = (
        "diff --git a/no/such/file.py b/no/such/file.py\n--- a/no/such/file.py\n+++ b/no/such/file.py\n"
        "@@ -1,3 +1,3 @@\n a line that is nowhere\n-another\n+something else\n a third\n"
    )
    found = []
    for row in rows:
        found += gold_predictions([row])
        for model, patch in (("no-op", nothing), ("garbage", garbage)):
            found.append(Prediction(instance_id=row.instance_id, model=model, patch=patch))
    return found


def sums(verdicts: "Sequence[Verdict]", with_controls: bool = False) -> list[str]:
    """The last lines: how many of each kind for each model, and why the ungraded ones are."""
    lines = []
    for model in sorted({verdict.model for verdict in verdicts}):
        own = [verdict for verdict in verdicts if verdict.model == model]
        kinds = Counter(verdict.verdict.replace("_", " ") for verdict in own)
        graded = len(own) - kinds["ungraded"]
        counts = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        label = f"; {gold} are the gold patch" if (gold := sum(each.is_gold for each in own)) else ""
        lines.append(f"{model}: {graded} of {len(own)} graded: {counts}{label if model != 'gold' else ''}")
    if with_controls:
        good = sorted(name for name in {each.instance_id for each in verdicts} if _tells_apart(name, verdicts))
        lines.append(f"{len(good)} instances tell gold, no-op and garbage apart: {' '.join(good)}")
    reasons = Counter(verdict.reason for verdict in verdicts if verdict.verdict == "ungraded")
    lines += [f"ungraded, {number}: {reason}" for reason, number in reasons.most_common()]
    return lines


def _tells_apart(name: str, verdicts: "Sequence[Verdict]") -> bool:
    kinds = {verdict.model: verdict.verdict for verdict in verdicts if verdict.instance_id == name}
    return kinds == {"gold": "resolved", "no-op": "unresolved", "garbage": "not_applied"}


def _with_docker(
    predictions: "Sequence[Prediction]", rows: "Mapping[str, Row]", out: Path, run_id: str, *, jobs: int, timeout_s: int
) -> int:
    from steergraph.evals.grading.docker import run_official

    reports = run_official(predictions, rows, out.absolute(), run_id, jobs=jobs, timeout_s=timeout_s)
    graded = 0
    for path, report in reports:
        refused = [name for name, reason in report["reasons"].items() if reason.startswith("Patch Apply Failed")]
        graded += report["completed_instances"] + report["empty_patch_instances"] + len(refused)
        named = ("resolved", "unresolved", "empty_patch", "error")
        counts = ", ".join(f"{report[name + '_instances']} {name.replace('_', ' ')}" for name in named)
        print(printable(f"{path.name.removesuffix(f'.{run_id}.json')}: {counts}"))
        for name in report["error_ids"]:
            reason = report["reasons"].get(name, "see its run_instance.log")
            print(printable(f"  {name}: {'not applied' if name in refused else 'error'}: {reason}"))
        print(printable(f"wrote {path}"))
    return 0 if graded else 1
