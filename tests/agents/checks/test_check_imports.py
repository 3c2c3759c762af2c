"""Whose sources a test imports: a real virtual environment with another tree installed in it, as editable."""

import subprocess
import sys
from pathlib import Path

import pytest

from steergraph.agents.checks.imports import elsewhere, import_path, import_roots
from steergraph.agents.checks.testing import TestCommand, run_after, run_before
from steergraph.sandbox.run import Sandbox

LIMITS = Sandbox(kind="limits")  # another kind does not show the tree of somebody's home
RIGHT, WRONG = "def one():\n    return 1\n", "def one():\n    return 2\n"
TEST = """import calc, unittest

class One(unittest.TestCase):
    def test_one(self):
        assert calc.one() == 1
"""


def tree(root: Path, source: str, folder: str = "src") -> Path:
    (root / folder / "calc").mkdir(parents=True)
    (root / folder / "calc" / "__init__.py").write_text(source)
    (root / "tests").mkdir()
    (root / "tests" / "test_one.py").write_text(TEST)
    return root


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A user's own tree, and a Python that has it installed as editable."""
    base = tmp_path_factory.mktemp("installed")
    own = tree(base / "own", RIGHT)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(base / "venv")], check=True)
    (packages,) = (base / "venv" / "lib").glob("python*/site-packages")
    (packages / "calc.pth").write_text(f"{own / 'src'}\n")
    return own, str(base / "venv" / "bin" / "python")


def test_the_copys_sources_come_before_an_editable_install(installed: tuple[Path, str], tmp_path: Path) -> None:
    _, python = installed
    copy = tree(tmp_path / "copy", WRONG)
    tests = TestCommand(command=f"{python} -m unittest discover -s tests", timeout_s=60)
    before = run_before(tests, LIMITS, copy)
    assert not before.passed and before.useless is None
    (copy / "src" / "calc" / "__init__.py").write_text(RIGHT)
    assert run_after(tests, LIMITS, copy).passed


def test_a_test_that_imports_another_tree_all_the_same_says_so(installed: tuple[Path, str], tmp_path: Path) -> None:
    own, python = installed
    copy = tree(tmp_path / "copy", WRONG)
    for command in (
        f"{python} -I -m unittest discover -s tests",
        f"PYTHONPATH={own}/src {sys.executable} -m unittest discover -s tests",
        f"cd . && {python} -E -m unittest discover -s tests",
    ):
        before = run_before(TestCommand(command=command, timeout_s=60), LIMITS, copy)
        assert before.passed and before.useless and "\n" not in before.useless
        assert before.useless.startswith("what it imports is not the copy under test: calc is "), command
        assert "own/src/calc/__init__.py" in before.useless


def test_what_a_test_imports_is_asked_in_the_sandbox_that_is_here(tmp_path: Path) -> None:
    sandbox = Sandbox.detect(unsafe=True)
    copy = tree(tmp_path / "copy", RIGHT)
    assert elsewhere("python -m unittest discover -s tests", copy, sandbox) is None
    assert elsewhere("pytest -q", copy, sandbox) is None
    assert run_after(TestCommand(command="python -m unittest discover -s tests", timeout_s=60), sandbox, copy).passed


@pytest.mark.parametrize(
    ("name", "text", "folder"),
    [
        ("pyproject.toml", '[tool.setuptools]\npackage-dir = {"" = "lib"}\n', "lib"),
        ("pyproject.toml", '[tool.setuptools.package-dir]\n"" = "lib"\n', "lib"),
        ("pyproject.toml", '[tool.setuptools.packages.find]\nwhere = ["lib"]\n', "lib"),
        ("pyproject.toml", '[tool.poetry]\npackages = [{include = "calc", from = "lib"}]\n', "lib"),
        ("pyproject.toml", '[tool.hatch.build.targets.wheel]\npackages = ["lib/calc"]\n', "lib"),
        ("pyproject.toml", '[tool.pdm.build]\npackage-dir = "lib"\n', "lib"),
        ("pyproject.toml", '[tool.maturin]\npython-source = "lib"\n', "lib"),
        ("setup.cfg", "[options]\npackage_dir =\n    = lib\n", "lib"),
        ("setup.cfg", "[options.packages.find]\nwhere = lib\n", "lib"),
        ("setup.py", "", "src"),
    ],
)
def test_import_roots_are_where_a_project_says(tmp_path: Path, name: str, text: str, folder: str) -> None:
    copy = tree(tmp_path / "copy", RIGHT, folder)
    (copy / name).write_text(text)
    assert import_roots(copy) == [folder, "."]
    assert import_path(copy, "/workspace") == {"PYTHONPATH": f"/workspace/{folder}:/workspace"}


@pytest.mark.parametrize(
    "text",
    [
        '[tool.setuptools]\npackage-dir = {"" = "../outside"}\n',
        '[tool.setuptools]\npackage-dir = {"" = "/etc"}\n',
        '[tool.setuptools]\npackage-dir = {"" = 5}\n',
        'tool = "none"\n',
        "[tool.setuptools\n",
        '[tool.setuptools.packages.find]\nwhere = [1, "nowhere", "\\u0000"]\n',
    ],
)
def test_settings_that_name_no_folder_of_the_project_name_nothing(tmp_path: Path, text: str) -> None:
    copy = tree(tmp_path / "copy", RIGHT)
    (tmp_path / "outside").mkdir()
    (copy / "pyproject.toml").write_text(text)
    assert import_roots(copy) == ["src", "."]
