"""A whole sweep: vectors, the select split, the choice, the report split, and what is written of it.

Knows how the lab's parts go together. Every step resumes: rows that are there are not made again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from steergraph.base.files import write_whole
from steergraph.engine.loading.models import load_model
from steergraph.engine.loading.weight_types import for_evidence
from steergraph.engine.local import LocalEngine
from steergraph.evals.lab import published
from steergraph.evals.lab.experiment import Answer, manifest, run
from steergraph.evals.lab.findings import SweepResult, by_arm, choose, judged, scores, thirds
from steergraph.evals.lab.ids import BASELINE, Cell
from steergraph.evals.lab.sweep import Sweep, SweepSettings, grid, make_vectors, middle_norm
from steergraph.evals.lab.tasks import Classifier, SweepTasks
from steergraph.evals.stats import wilson
from steergraph.sandbox.run import Sandbox

_BATCH = 64
Say = Callable[[str], None]


def run_sweep(
    model: str,
    settings: SweepSettings,
    tasks: SweepTasks,
    out: Path,
    command: str,
    say: Say,
) -> SweepResult:
    """Run what is missing in `out`/select and `out`/report, and write `out`/sweep.json and sweep.md.

    Raises InputError as `experiment.run` does, and where the model can't be loaded.
    """
    loaded = load_model(model, weights=for_evidence())
    if loaded.info.kind == "base":
        doses = {source: units for source, units in settings.doses.items() if source != "prompts"}
        settings = settings.model_copy(update={"doses": doses})
    say("vectors")
    library = make_vectors(loaded, settings, tasks)
    registers = tasks.classifier()
    scale = middle_norm(loaded)
    cells = {domain: grid(settings, domain, loaded.info.n_layers, scale) for domain in settings.domains}
    sandbox = Sandbox.detect()

    def progress(split: str) -> Callable[[int, int], None]:
        return lambda done, of: say(f"{split}: {done} of {of} answers")

    with LocalEngine(loaded, library, max_batch=_BATCH) as engine:
        selecting = Sweep(settings, "select", cells, tasks, registers, sandbox)
        rows = run(selecting, engine, out / "select", command=command, report=progress("select"))
        table = scores(rows, cells)
        drafts = choose(table, settings.coherent)
        chosen: dict[str, list[Cell]] = {domain: [] for domain in settings.domains}
        for draft in drafts:
            if draft.cell not in chosen[draft.domain]:
                chosen[draft.domain].append(draft.cell)
        reporting = Sweep(settings, "report", chosen, tasks, registers, sandbox)
        reported = run(reporting, engine, out / "report", command=command, report=progress("report"))
        made = manifest(selecting, engine, command)
        info = engine.info
    result = SweepResult(
        manifest=made,
        classifier=_classifier(registers, tasks.spoken(), reported),
        table=tuple(table),
        found=tuple(judged(drafts, reported)),
        late=tuple(thirds(rows, cells, info.n_layers)),
    )
    write_whole(out / "sweep.json", published.record(result))
    write_whole(out / "sweep.md", published.as_markdown(result))
    write_whole(out / "cells.yaml", published.cells_yaml(info, result.found, command))
    return result


def _classifier(registers: Classifier, pairs: Sequence[tuple[str, str]], rows: list[Answer]) -> dict[str, Any]:
    """How often the classifier is right: on the tasks' texts, and on the model's own words, by their prompt."""
    labels = registers.tell([text for text, _ in pairs])
    right = wilson(sum(one == label for one, (_, label) in zip(labels, pairs, strict=True)), len(pairs))
    figures: dict[str, Any] = {"corpus": {"n": len(pairs), **right.model_dump()}}
    own = {
        domain: [answer.metrics["domain"] for answer in answers.values()]
        for (domain, prompt, arm), answers in by_arm(rows).items()
        if (prompt, arm) == ("own", BASELINE)
    }
    if own:
        n = sum(map(len, own.values()))
        figures["own_answers"] = {"n": n, **wilson(int(sum(map(sum, own.values()))), n).model_dump()}
        figures["own_answers_by_domain"] = {name: round(fmean(hits), 4) for name, hits in own.items()}
    return figures
