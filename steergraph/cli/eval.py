"""`steergraph eval`: grade predictions, or find out what can be graded here. Knows the command line and printing."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.base.folders import cache_folder

if TYPE_CHECKING:
    from steergraph.evals.grading.rows import Prediction, Row
    from steergraph.evals.grading.verdict import Verdict

_NOTES = 20


def add_parser(subparsers: Any) -> None:
    """Register the command on an `add_subparsers()` object."""
    parser = subparsers.add_parser(
        "eval", help="grade SWE-bench predictions, with Docker or without (docs/swebench.md)"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--predictions", metavar="FILE", help=".jsonl or .json, as the official harness takes them")
    what.add_argument(
        "--gold", action="store_true", help="the dataset's own patches: what can be graded here, and why not"
    )
    what.add_argument(
        "--controls", action="store_true", help="gold, a patch that changes nothing, and garbage, for each instance"
    )
    parser.add_argument(
        "--dataset",
        required=True,
        nargs="+",
        metavar="FILE|NAME",
        help="with swebench 5's columns; a name on the hub too",
    )
    parser.add_argument("--executor", choices=("sandbox", "docker"), default="sandbox", help="default: sandbox")
    parser.add_argument("--instances", nargs="+", metavar="ID", help="these only")
    parser.add_argument(
        "--repos", metavar="DIR|URL", help="folder of clones or bundles, or a URL with {repo} (sandbox)"
    )
    parser.add_argument("--environments", metavar="DIR", help="pinned conda exports (default: beside the dataset)")
    parser.add_argument("--specs", metavar="FILE", help="table of repository versions (default: beside the dataset)")
    parser.add_argument("--cache", metavar="DIR", help="where environments are kept (default: in steergraph's cache)")
    parser.add_argument("--offline", action="store_true", help="ask no package index: use environments that are there")
    parser.add_argument(
        "--run-id", default="eval", metavar="ID", help="names the log folder; again: goes on (default: eval)"
    )
    parser.add_argument("--out", default=".", metavar="DIR", help="logs/run_evaluation and the reports (default: here)")
    parser.add_argument("--jobs", type=_positive, default=1, metavar="N", help="instances at a time (default: 1)")
    parser.add_argument("--timeout", type=_positive, default=1800, metavar="S", help="for one test run (default: 1800)")
    parser.add_argument("--memory-mb", type=_positive, default=4096, metavar="MB", help="of a process (default: 4096)")
    parser.set_defaults(run=run_eval)


def run_eval(arguments: argparse.Namespace) -> int:
    """Grade, print a line for each prediction and the sums. 0 where something was graded, 1 where nothing was."""
    from steergraph.evals.grading.rows import gold_predictions, read_predictions, read_rows

    rows = read_rows(arguments.dataset, images=arguments.executor == "docker")
    if arguments.instances:
        unknown = [name for name in arguments.instances if name not in rows]
        if unknown:
            raise InputError(f"--instances {unknown[0]}: no such instance in {', '.join(arguments.dataset)}")
    chosen = {name: row for name, row in rows.items() if not arguments.instances or name in arguments.instances}
    notes: list[str] = []
    if arguments.predictions:
        predictions, notes = read_predictions(Path(arguments.predictions), rows)
        predictions = [each for each in predictions if each.instance_id in chosen]
    elif arguments.controls:
        predictions = controls(chosen.values())
    else:
        predictions = gold_predictions(chosen.values())
    for note in notes[:_NOTES]:
        print(f"note: {_plain(note)}")
    if len(notes) > _NOTES:
        print(f"note: and {len(notes) - _NOTES} more")
    if not predictions:
        raise InputError("--instances: there is no prediction for any of them")
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    if arguments.executor == "docker":
        return _with_docker(arguments, out, predictions, rows)
    return _in_sandbox(arguments, out, predictions, rows)


def controls(rows: Any) -> "list[Prediction]":
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


def _in_sandbox(
    arguments: argparse.Namespace,
    out: Path,
    predictions: "Sequence[Prediction]",
    rows: "Mapping[str, Row]",
) -> int:
    from steergraph.evals.grading.grade import Grader, Places
    from steergraph.evals.grading.pins import Pins
    from steergraph.evals.grading.sandbox import Bounds
    from steergraph.evals.swebench.repos import Repos
    from steergraph.sandbox.run import Sandbox

    given = [Path(name) if name else None for name in (arguments.environments, arguments.specs)]
    pins = Pins.beside(Path(arguments.dataset[0]), *given)
    cache = Path(arguments.cache) if arguments.cache else cache_folder() / "environments"
    places = Places(
        repos=Repos(arguments.repos), cache=cache.absolute(), out=out.absolute(), fetch=not arguments.offline
    )
    bounds = Bounds(timeout_s=arguments.timeout, memory_mb=arguments.memory_mb)
    done = 0

    def tell(verdict: "Verdict") -> None:
        nonlocal done
        done += 1
        where = f"{done}/{len(predictions)} {verdict.instance_id} [{verdict.model}]"
        print(_plain(f"{where}: {verdict.line} ({verdict.seconds:.1f} s)"), flush=True)

    with Grader(rows, pins, places, Sandbox.detect("bwrap"), bounds, arguments.run_id) as grader:
        verdicts = grader.grade_all(predictions, arguments.jobs, tell, end_children=True)
        dataset = Path(arguments.dataset[0]).absolute()
        if len(arguments.dataset) > 1 or not dataset.is_file():
            dataset = grader.logs / "dataset.jsonl"
            _write_rows(dataset, [rows[name].columns for name in sorted({each.instance_id for each in predictions})])
        reports = grader.summarise(verdicts, predictions, dataset)
    print()
    for line in sums(verdicts, arguments.controls):
        print(_plain(line))
    for path in reports:
        print(_plain(f"wrote {path}"))
    return 0 if any(verdict.verdict != "ungraded" for verdict in verdicts) else 1


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
    arguments: argparse.Namespace, out: Path, predictions: "Sequence[Prediction]", rows: "Mapping[str, Row]"
) -> int:
    from steergraph.evals.grading.docker import run_official

    reports = run_official(
        predictions, rows, out.absolute(), arguments.run_id, jobs=arguments.jobs, timeout_s=arguments.timeout
    )
    graded = 0
    for path, report in reports:
        refused = [name for name, reason in report["reasons"].items() if reason.startswith("Patch Apply Failed")]
        graded += report["completed_instances"] + report["empty_patch_instances"] + len(refused)
        named = ("resolved", "unresolved", "empty_patch", "error")
        counts = ", ".join(f"{report[name + '_instances']} {name.replace('_', ' ')}" for name in named)
        print(_plain(f"{path.name.removesuffix(f'.{arguments.run_id}.json')}: {counts}"))
        for name in report["error_ids"]:
            reason = report["reasons"].get(name, "see its run_instance.log")
            print(_plain(f"  {name}: {'not applied' if name in refused else 'error'}: {reason}"))
        print(_plain(f"wrote {path}"))
    return 0 if graded else 1


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import json

    write_whole(path, "".join(json.dumps(row, default=str) + "\n" for row in rows))


def _plain(text: str) -> str:
    """Without control codes: reasons quote what patches and tests said."""
    return "".join(char if char.isprintable() else " " for char in text)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
