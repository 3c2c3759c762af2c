"""The official harness, in containers of a daemon of the test's own, on an image made from this machine's programs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker_daemon
import grade_help as own
import pytest

from steergraph.cli import main

pytestmark = pytest.mark.slow
IMAGE = "own/calc:latest"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("swebench", reason="the official harness is not installed (steergraph[swebench])")
    if why := docker_daemon.why_no_daemon():
        pytest.skip(why)
    # A socket's path may have no more than 107 letters.
    folder = tmp_path_factory.mktemp("d")
    try:
        with docker_daemon.daemon(folder) as found:
            root = folder / "root"
            own.make_repository(folder / "own__calc")
            docker_daemon.make_root(root, folder / "own__calc")
            docker_daemon.import_image(found, IMAGE, root)
            yield found
    except RuntimeError as error:
        pytest.skip(f"no Docker daemon starts here: {error}")
    assert str(folder) not in Path("/proc/self/mountinfo").read_text(), "the daemon's mounts are gone"


def test_the_harness_grades_an_instance_of_our_own(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    # Neither this nor a package called docker in the working folder may be read.
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("DOCKER_HOST=unix:///nowhere\n")
    (tmp_path / "docker.py").write_text("raise SystemExit('the wrong docker')\n")
    base = own.make_repository(tmp_path / "own__calc")
    patches = {"good": own.GOLD, "no-op": own.NO_OP, "wrong": own.WRONG, "garbage": own.GARBAGE, "empty": ""}
    predictions = own.write_jsonl(
        tmp_path / "p.jsonl", [own.prediction(patch, name) for name, patch in patches.items()]
    )
    data = own.write_jsonl(tmp_path / "data.jsonl", [own.make_row(base, image=IMAGE)])
    words = ["eval", "--dataset", str(data), "--executor", "docker", "--run-id", "own", "--timeout", "120"]
    assert main([*words, "--predictions", str(predictions)]) == 0
    said = capsys.readouterr().out
    reports = {name: json.loads((tmp_path / f"{name}.own.json").read_text()) for name in patches}
    assert reports["good"]["resolved_ids"] == [own.INSTANCE] == reports["good"]["gold_ids"]
    assert reports["no-op"]["unresolved_ids"] == [own.INSTANCE] == reports["wrong"]["unresolved_ids"]
    assert reports["empty"]["empty_patch_ids"] == [own.INSTANCE]
    assert reports["garbage"]["error_ids"] == [own.INSTANCE]
    assert "own__calc-1: not applied: Patch Apply Failed" in said
    assert all(report["unstopped_containers"] == [] for report in reports.values())

    # An image that is nowhere is one line, and no hang.
    lost = own.write_jsonl(tmp_path / "lost.jsonl", [own.make_row(base, image="own/nowhere:latest")])
    words[2] = str(lost)
    words[6] = "lost"
    assert main([*words, "--gold"]) == 1
    assert "own__calc-1: error: Error creating container" in capsys.readouterr().out


def test_the_harness_reports_on_a_sandbox_run(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`swebench report` asks for a daemon, and then reads what the sandbox wrote."""
    import test_grade_sandbox

    test_grade_sandbox.sandbox_or_skip()
    place = test_grade_sandbox.Place(tmp_path / "place")
    place.rows()
    words = [
        "eval",
        "--gold",
        "--dataset",
        str(tmp_path / "place/data.jsonl"),
        "--repos",
        str(tmp_path / "place/repos"),
    ]
    words += ["--specs", str(tmp_path / "place/specs.json"), "--cache", str(tmp_path / "place/cache"), "--offline"]
    assert main([*words, "--out", str(tmp_path / "out"), "--run-id", "shown"]) == 0
    monkeypatch.setenv("DOCKER_HOST", address)
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "1")
    program = Path(sys.executable).with_name("swebench")
    if not program.is_file():
        pytest.skip("the swebench command is not beside this Python")
    done = subprocess.run(
        [program, "report", "shown"], cwd=tmp_path / "out", capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert "Instances resolved: 1" in done.stdout and "Instances unresolved: 0" in done.stdout
