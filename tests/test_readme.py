"""The README is run: its Python, its commands; and its drawing is the graph's own."""

import re
import shlex
from pathlib import Path

import pytest

from steergraph.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


def test_there_is_something_to_run():
    assert blocks("python") and COMMANDS[:2] == ["make run", "make test"]
    assert sum(command.startswith("steergraph ") for command in COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme(command, monkeypatch, capsys, tmp_path):
    program, *arguments = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{arguments[0]}\b.*:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    assert program == "steergraph"
    monkeypatch.chdir(ROOT)
    if arguments[0] in ("run", "ask"):
        arguments += ["--out", str(tmp_path / "run")]
    assert main(arguments) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_of_the_readme(code, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert said.strip()
    assert "build_graph" not in code or "bug_analysis on own_cell" in said


def test_the_drawing_is_the_graphs_own():
    from steergraph import build_graph

    drawn = build_graph().get_graph().draw_mermaid(with_styles=False)
    assert blocks("mermaid")[0].strip() == drawn.strip()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
