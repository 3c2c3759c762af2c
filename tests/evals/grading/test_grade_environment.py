"""Making environments for real: a virtual environment, a project installed without a network, real instances."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import grade_help as own
import pytest
from test_grade_sandbox import sandbox_or_skip

from steergraph.base.errors import InputError
from steergraph.cli import main
from steergraph.evals.grading.environments import (
    Environment,
    EnvironmentFailed,
    add_missing,
    environment_for,
    run_script,
    share_large,
)
from steergraph.evals.grading.interpreters import find_interpreter
from steergraph.evals.grading.pins import Pins, Recipe
from steergraph.evals.grading.wheels import FetchFailed, fetch_sources, fetch_wheels

VERSION = ".".join(str(part) for part in sys.version_info[:2])


def recipe(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {"repo": "own/calc", "version": "1.0", "python": VERSION, "pins": ()}
    return Recipe(**fields | changes)


@pytest.fixture
def testbed(tmp_path: Path) -> Path:
    own.make_repository(tmp_path / "testbed")
    return tmp_path / "testbed"


@pytest.mark.slow
def test_an_environment_is_made_once_and_is_seen_where_scripts_expect_it(testbed: Path, tmp_path: Path) -> None:
    sandbox = sandbox_or_skip()
    made = environment_for(recipe(), testbed, "echo installed > made.txt", sandbox, tmp_path / "cache", fetch=False)
    again = environment_for(recipe(), testbed, "exit 1", sandbox, tmp_path / "cache", fetch=False)
    assert again == made and not (testbed / "made.txt").exists()
    assert not list((tmp_path / "cache").glob(".making-*"))
    script = (
        "set -eu; source /opt/miniconda3/bin/activate; conda activate testbed; cd /testbed\n"
        "python -c 'import sys; print(sys.prefix)'; command -v pip; ls; env | grep -c -i -E 'secret|PYTEST' || true"
    )
    result = run_script(sandbox, ["/bin/bash", "-c", script], testbed, made.mounts(testbed, made.folder / "env"), "1.0")
    lines = result.output.split()
    assert lines == [
        "/opt/miniconda3/envs/testbed",
        "/opt/miniconda3/envs/testbed/bin/pip",
        "calc.py",
        "test_calc.py",
        "0",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "install", "said"),
    [
        ({"python": "4.7"}, "true", "no Python 4.7 here"),
        ({"pins": ("no-such-package==1.0",)}, "true", "its packages cannot be installed: ERROR: No matching"),
        ({}, "echo 'ERROR: it is broken'; exit 3", "the project cannot be installed: ERROR: it is broken"),
        ({"prepare": ("false",)}, "false", "the project cannot be installed"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_leaves_nothing(
    testbed: Path, tmp_path: Path, changes: dict[str, Any], install: str, said: str
) -> None:
    with pytest.raises(EnvironmentFailed, match=re.escape(said)) as error:
        environment_for(recipe(**changes), testbed, install, sandbox_or_skip(), tmp_path / "cache", fetch=False)
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f".{recipe(**changes).key}.lock"]


def index_or_skip(into: Path) -> None:
    into.mkdir(exist_ok=True)
    try:
        if fetch_wheels(find_interpreter(VERSION), ["iniconfig==2.0.0"], into, deps=False):
            pytest.skip("the package index has no iniconfig 2.0.0")
    except InputError as error:
        pytest.skip(f"no package index can be reached: {error}")


@pytest.mark.slow
def test_wheels_are_fetched_and_sources_are_not_run(tmp_path: Path) -> None:
    index_or_skip(tmp_path / "wheels")
    python = find_interpreter(VERSION)
    refused = fetch_wheels(python, ["docopt==0.6.2", "iniconfig==2.0.0"], tmp_path / "wheels", deps=False)
    assert refused == ["docopt==0.6.2"]
    assert fetch_sources(python, [*refused, "docopt==99.99"], tmp_path / "wheels") == refused
    assert sorted(path.name for path in (tmp_path / "wheels").iterdir()) == [
        "docopt-0.6.2.tar.gz",
        "iniconfig-2.0.0-py3-none-any.whl",
    ]
    with pytest.raises(FetchFailed) as error:
        fetch_wheels(python, ["not a requirement"], tmp_path / "wheels", deps=False)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.realdata
def test_a_real_instance_tells_gold_from_nothing_and_garbage(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """pytest 7.2 needs the smallest environment of all that are at hand."""
    sandbox_or_skip()
    index_or_skip(tmp_path / "wheels")
    try:
        find_interpreter("3.9")
    except InputError as error:
        pytest.skip(str(error))
    dataset, repos = data / "swebench/verified_test.parquet", data / "repos"
    words = ["eval", "--controls", "--dataset", str(dataset), "--repos", str(repos), "--cache", str(tmp_path / "cache")]
    code = main([*words, "--instances", "pytest-dev__pytest-10051", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert code == 0 and "1 instances tell gold, no-op and garbage apart: pytest-dev__pytest-10051" in said, said
    assert "F2P 1/1 P2P 15/15" in said and "F2P 0/1 P2P 15/15" in said
    (manifest,) = (tmp_path / "cache").glob("*/environment.json")
    assert json.loads(manifest.read_text())["recipe"]["python"] == "3.9"
    log = tmp_path / "out/logs/run_evaluation/eval/gold/pytest-dev__pytest-10051/test_output.txt"
    # The commit is shown against its parent and not as the whole tree.
    assert log.stat().st_size < 200_000


def test_what_a_log_misses_is_fetched_once(testbed: Path, tmp_path: Path) -> None:
    """Without a network nothing is fetched; what does not look like a requirement is not asked for at all."""
    folder = own.make_environment(tmp_path / "cache", own_pins(tmp_path))
    environment = Environment(
        folder=folder, key=folder.name, version="1.0", interpreter=Path(sys.base_prefix), notes=()
    )
    assert not add_missing(environment, "all is well")
    assert not add_missing(environment, "No matching distribution found for --index-url=https://x y\n")
    manifest = json.loads((folder / "environment.json").read_text())
    manifest["notes"].append("added: blinker>=1.6.2 (an instance's installation asks for it)")
    (folder / "environment.json").write_text(json.dumps(manifest))
    assert not add_missing(environment, "ERROR: No matching distribution found for blinker>=1.6.2\n")
    assert not add_missing(environment, 'ERROR: No matching distribution found for blinker>=1.6.2; extra == "dev"\n')


def test_large_packages_are_shared_and_not_copied(testbed: Path, tmp_path: Path) -> None:
    sandbox = sandbox_or_skip()
    folder = own.make_environment(tmp_path / "cache", own_pins(tmp_path))
    site = folder / "env/lib/python3.11/site-packages"
    for name, size in (("large", 200), ("small", 10)):
        (site / name / "inner").mkdir(parents=True)
        (site / name / "inner/data").write_bytes(b"x" * size)
    share_large(folder, 100)
    assert not list((site / "large").iterdir()) and (site / "small/inner/data").is_file()
    environment = Environment(
        folder=folder, key=folder.name, version="1.0", interpreter=Path(sys.base_prefix), notes=()
    )
    place = "/opt/miniconda3/envs/testbed/lib/python3.11/site-packages"
    script = (
        f"wc -c < {place}/large/inner/data; wc -c < {place}/small/inner/data; touch {place}/made {place}/large/made"
    )
    mounts = environment.mounts(testbed, folder / "env")
    result = run_script(sandbox, ["/bin/bash", "-c", script], testbed, mounts, "1.0")
    assert result.output.split("\n")[:2] == ["200", "10"] and "Read-only file system" in result.output
    assert (site / "made").is_file()


def own_pins(folder: Path) -> Pins:
    return Pins(None, own.write_specs(folder / "specs.json"))
