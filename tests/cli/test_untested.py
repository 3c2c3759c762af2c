"""`steergraph run` with a patch that no test vouches for: exit codes, the last line, the record, the tree."""

import json
import subprocess
from pathlib import Path

import pytest

from steergraph.cli import main
from steergraph.engine.protocol import Request
from steergraph.engine.scripted import ScriptedEngine

BUNDLE = str(Path(__file__).resolve().parents[2] / "examples" / "pantry.bundle")
REPAIR = """pantry/stock.py
<<<<<<< SEARCH
        if amount < limit:
=======
        if amount <= limit:
>>>>>>> REPLACE
"""
FAILS_FIRST = "grep -q '<= limit' pantry/stock.py"


def reply(request: Request) -> str:
    return REPAIR if "edit blocks" in request.messages[0].content else "Suspects: `low_items`."


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run by a model that knows the repair, in a tree of its own; its exit code and outcome."""
    monkeypatch.setattr("steergraph.agents.driving.make_engine", lambda config: ScriptedEngine(reply))
    subprocess.run(["git", "clone", "-q", BUNDLE, str(tmp_path / "tree")], check=True)
    words = ["run", "--repo", str(tmp_path / "tree"), "--issue", "`low_items` leaves out what is at the limit"]

    def go(*more: str) -> tuple[int, dict]:
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        code = main([*words, "--unsafe-tests", "--max-repairs", "0", "--out", str(folder), *more])
        return code, json.loads((folder / "outcome.json").read_text())

    return go


def test_without_a_test_a_patch_is_untested_and_the_last_line_says_so(run, capsys) -> None:
    code, ended = run()
    assert (code, ended["status"], ended["tests"]) == (0, "patched_untested", None) and ended["patch"]
    assert ended["untested"] == "no test was given"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "untested  nothing shows that this patch repairs it: no test was given"


@pytest.mark.parametrize("test", [[], ["--test", "true"], ["--test", "no-such-program"]])
def test_a_required_test_takes_it_for_none_and_applies_nothing(run, capsys, tmp_path: Path, test: list[str]) -> None:
    code, ended = run("--require-test", "--apply", *test)
    assert (code, ended["status"]) == (1, "patched_untested")
    assert "--require-test takes that for none" in capsys.readouterr().out.splitlines()[-1]
    assert "amount < limit" in (tmp_path / "tree" / "pantry" / "stock.py").read_text()


def test_a_test_that_failed_without_it_vouches_for_a_patch(run, capsys, tmp_path: Path) -> None:
    code, ended = run("--require-test", "--apply", "--test", FAILS_FIRST)
    assert (code, ended["status"], ended["untested"]) == (0, "patched", None)
    assert [ended["tests"][when]["passed"] for when in ("before", "after")] == [False, True]
    assert "untested" not in capsys.readouterr().out
    assert "amount <= limit" in (tmp_path / "tree" / "pantry" / "stock.py").read_text()


def test_an_empty_test_is_refused(run, capsys) -> None:
    with pytest.raises(FileNotFoundError):  # there is no outcome
        run("--test", "")
    assert "--test: the command is empty" in capsys.readouterr().err
