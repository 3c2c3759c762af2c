"""What the tests of README and docs share: a page's blocks, and running them.

A page's `python` blocks run one after the other in one namespace; a block with a title is a file that they find.
Of `sh` blocks `steergraph` lines run, and `make` lines name targets. Other blocks are for reading.
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from steergraph.cli import main

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order. An empty title is None."""
    return [Block(language, title or None, text) for language, title, text in _BLOCK.findall(page.read_text("utf-8"))]


def run_command(line: str, *more: str) -> None:
    """Run a line of a shell block in this process, with `more` words; exit code 1 (none found) is fine, 2 is not."""
    program, *words = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{words[0]}\b.*:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
        return
    assert program == "steergraph", line
    assert main([*words, *more]) in (0, 1), line


def run_page(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a page's blocks in the present folder, from first to last. Every python block prints something."""
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), names)
            assert capsys.readouterr().out.strip(), f"{page.name} prints nothing: {block.text[:60]}"
        elif block.language == "sh":
            for line in block.text.splitlines():
                run_command(line)
            assert "Traceback" not in capsys.readouterr().err
