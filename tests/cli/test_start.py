"""What a command imports before it has to, and how the words of a command line are read."""

import subprocess
import sys
from pathlib import Path

import pytest

from steergraph.cli.app import _repeated, main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODELS = {"torch", "transformers"}
FIND = ("find", "--repo", str(EXAMPLES / "pantry.bundle"), "--issue", "`clean_label` keeps blanks")


def imported(*words: str) -> set[str]:
    """The modules that a process has imported when `steergraph WORDS` has ended."""
    code = "import sys; from steergraph.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("vectors", "--help"), ("run", "--help")])
def test_help_imports_nothing_that_is_slow(words: tuple[str, ...]) -> None:
    found = imported(*words)
    assert not found & (MODELS | {"langgraph", "langchain_core", "numpy", "pyarrow"})


@pytest.mark.parametrize("words", [("doctor",), FIND, ("vectors", "list"), ("models", "list")])
def test_only_what_speaks_imports_a_model(words: tuple[str, ...], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path))
    assert not imported(*words) & MODELS


def test_a_run_executes_no_module_of_evals(tmp_path: Path) -> None:
    issue = str(EXAMPLES / "issues" / "stock.md")
    words = ("run", "--repo", FIND[2], "--issue", issue, "--out", str(tmp_path / "run"), "--max-repairs", "0")
    assert not {name for name in imported(*words) if name.startswith("steergraph.evals")}
    assert (tmp_path / "run" / "outcome.json").is_file()


def test_an_option_that_takes_several_words() -> None:
    lists = {"--layer", "--choices"}
    assert _repeated(["a", "--layer", "1", "2", "--top", "3"], lists) == [
        *("a", "--layer", "1", "--layer", "2", "--top", "3")
    ]
    assert _repeated(["--layer", "-1", "0.5", "--", "--layer", "1"], lists) == [
        *("--layer", "-1", "--layer", "0.5", "--", "--layer", "1")
    ]


WRONG = [[], ["nope"], ["run", "--nope"], ["vectors"], ["vectors", "nope"], ["ask", "--seed", "x"]]


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("steergraph: ") and len(err.splitlines()) == 1
