"""The tutorial's notebooks are run, each in a kernel and in its own folder, and print what they are shown to print.

`STEERGRAPH_GOLDEN=write` writes the outputs anew, as for the golden files.
"""

import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs" / "tutorial").glob("*.ipynb"))
SECONDS = 300
"""For one cell."""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_shows(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path))
    shown = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in shown["cells"] if cell["cell_type"] == "code"]
    texts = run(path)
    if os.environ.get("STEERGRAPH_GOLDEN") == "write":
        for cell, text in zip(cells, texts, strict=True):
            lines = text.splitlines(keepends=True)
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if text else []
        path.write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert texts == ["".join("".join(output["text"]) for output in cell["outputs"]) for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_nothing_of_the_machine_that_ran_it(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        assert not cell["metadata"]
        if cell["cell_type"] == "code":
            assert cell["execution_count"] is None
            assert {output["name"] for output in cell["outputs"]} <= {"stdout"}


def run(path: Path) -> list[str]:
    """What each code cell prints or gives now, as text. Raises nbclient's CellExecutionError where a cell does."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(path.parent)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(text_of(output) for output in cell.outputs) for cell in cells]


def text_of(output: Any) -> str:
    """An output as text; the warnings that libraries write to standard error are none."""
    if output.output_type == "stream":
        return str(output.text) if output.name == "stdout" else ""
    return str(output.data["text/plain"]) + "\n"
