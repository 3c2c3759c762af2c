"""An issue through the whole graph on a pretrained model, SmolLM2-135M: asked in its own way, steered and unsteered.

steergraph models fetch smollm2 && pytest -m realmodel
"""

from pathlib import Path

import pytest

from steergraph.agents.graph import build_graph
from steergraph.agents.run_config import Context
from steergraph.engine.local import LocalEngine

pytestmark = [pytest.mark.slow, pytest.mark.realmodel("smollm2")]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_an_issue_on_smollm2(sandbox_context) -> None:  # type: ignore[no-untyped-def]
    task = {
        "problem": (EXAMPLES / "issues" / "shelf.md").read_text(encoding="utf-8"),
        "repo": str(EXAMPLES / "pantry.bundle"),
    }
    given = sandbox_context("python -m unittest tests.test_shelf").model_dump() | {"candidates": 2, "max_repairs": 0}
    with LocalEngine("smollm2") as engine:
        values = build_graph(engine=engine).invoke(task, context=Context(**given))
    assert values["files_found"][0] == "pantry/shelf.py"
    note, *answers = values["steps"]
    assert note["specialist"] == "bug_analysis"
    assert note["decision"]["mode"] == "on" and note["receipt"]["prompt_positions"] > 0
    assert not any("```" not in answer["prompt"][-1]["content"] for answer in answers)
    assert [(a["specialist"], a["candidate"], a["decision"]["rule"]) for a in answers] == [
        ("patch_writing", 0, "retrieved_context"),
        ("patch_writing", 1, "retrieved_context"),
    ]
    # It is no coder: what is held is that its words are read as an edit, or refused for a reason that can be acted on.
    assert values["status"] in ("patched", "checks_failed", "edit_did_not_apply", "no_edit")
    assert bool(values["patch"]) == (values["status"] == "patched")
    assert values["status"] == "patched" or values["problems"]
