"""Every command on terminals that can't show what it says, on a full disk, and in folders that are somebody's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from git_repos import make_repository

from steergraph.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BUNDLE = str(EXAMPLES / "pantry.bundle")
RUN = ["run", "--repo", BUNDLE, "--issue", "it fails", "--model", "no/such/model"]


def steergraph(*words: str, encoding: str = "ascii", out: object = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    own = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "steergraph", *words], stdout=out, stderr=subprocess.PIPE, encoding=encoding, env=own
    )  # type: ignore[call-overload]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_find_prints_what_the_terminal_lacks_as_escapes(tmp_path: Path, encoding: str) -> None:
    make_repository(tmp_path / "r", {"preis.py": "def preis():\n    return 'снег ☃ naïve'\n"})
    for words in (("find", "--repo", str(tmp_path / "r"), "--issue", "preis: снег"), ("vectors", "list"), ("doctor",)):
        done = steergraph(*words, encoding=encoding)
        assert done.returncode in (0, 1), (words, done.stderr)
        assert "Traceback" not in done.stderr
    assert "\\u2603" in steergraph("find", "--repo", str(tmp_path / "r"), "--issue", "preis", encoding=encoding).stdout


def test_an_error_of_a_command_is_printed_on_any_terminal() -> None:
    done = steergraph("find", "--repo", "снег", "--issue", "x y")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "\\u0441" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "words", [["vectors", "list"], ["--version"], ["find", "--repo", BUNDLE, "--issue", "low items"]]
)
def test_a_full_disk_is_one_line(words: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = steergraph(*words, out=full)
    assert (done.returncode, done.stderr) == (2, "steergraph: cannot write: No space left on device\n")


def test_a_run_makes_its_folder_in_no_folder_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_repository(tmp_path / "r", {"a.py": "x = 1\n"})
    (tmp_path / "file").write_text("")
    for out, said in (
        (tmp_path / "r", "other files"),
        (tmp_path / "file", "a file"),
        (tmp_path / "file/x", "can't be"),
    ):
        for words in (RUN, ["ask", "Why?", "--model", "no/such/model"]):
            assert main([*words, "--out", str(out)]) == 2
            error = capsys.readouterr().err
            assert said in error and "no/such/model" not in error  # said before a model is looked for
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [".git", "a.py"]
    (tmp_path / "empty").mkdir()
    assert main([*RUN, "--out", str(tmp_path / "empty")]) == 2
    assert "no/such/model" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bare", "bare within"])
def test_apply_to_a_bare_repository_is_refused_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    place = tmp_path / "r.git" if kind == "bare" else tmp_path / "r" / ".git"
    subprocess.run(["git", "clone", "-q", "--bare", BUNDLE, str(place)], check=True)
    repo = place if kind == "bare" else place.parent
    assert main(["run", "--repo", str(repo), "--issue", "it fails", "--model", "no/such/model", "--apply"]) == 2
    assert "--apply changes a working tree" in capsys.readouterr().err


def test_what_is_said_beside_resume_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, option in (
        (["run", "--resume", "r", "--model", "nope"], "--model"),
        (["run", "--resume", "r", "--issue", "x y"], "--issue"),
        (["run", "--resume", "r", "--seed", "0"], "--seed"),
        (["run", "--resume", "r", "--require-test"], "--require-test"),
        (["ask", "--resume", "r", "--out", "x"], "--out"),
        (["ask", "Why?", "--resume", "r"], "QUESTION"),
    ):
        assert main(words) == 2
        assert f"leave {option} out" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[1]", "1", "{", "[" * 5000, '{"model": 1}'])
def test_a_run_json_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert main(["run", "--resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "run.json" in error and error.count("\n") == 1


def test_a_finished_run_says_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "run")
    code = main(["ask", "Who was king?", "--choices", "Ann", "Ben", "--out", folder])
    answer = json.loads((tmp_path / "run" / "outcome.json").read_text())["answer"]
    capsys.readouterr()
    assert main(["ask", "--resume", folder]) == code == 0
    said = capsys.readouterr().out
    assert "the run had ended before" in said and f"answer  {answer}" in said and "outcome  answered" in said
