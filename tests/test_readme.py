"""The README is run: its Python, its commands; and its drawing is the graph's own."""

import pytest
from docs_help import ROOT, blocks, run_command

PAGE = ROOT / "README.md"


def texts(language: str) -> list[str]:
    return [block.text for block in blocks(PAGE) if block.language == language]


COMMANDS = [line for text in texts("sh") for line in text.splitlines()]


def test_there_is_something_to_run():
    assert texts("python") and COMMANDS[:2] == ["make run", "make test"]
    assert sum(command.startswith("steergraph ") for command in COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    run_command(command, *(["--out", str(tmp_path / "run")] if command.split()[1] in ("run", "ask") else []))
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("code", texts("python"))
def test_the_python_of_the_readme(code, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.strip()
    assert "build_graph" not in code or "bug_analysis on own_cell" in printed


def test_the_drawing_is_the_graphs_own():
    from steergraph import build_graph

    drawn = build_graph().get_graph().draw_mermaid(with_styles=False)
    assert texts("mermaid")[0].strip() == drawn.strip()
