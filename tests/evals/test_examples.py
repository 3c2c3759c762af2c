"""The example repository: its bundle, its planted defects and the tests that tell a repair from none."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ISSUES = {entry["name"]: entry for entry in yaml.safe_load((EXAMPLES / "issues.yaml").read_text())["issues"]}

# What repairs each planted defect: the file, its wrong line and the right one.
REPAIRS = {
    "stock": ("pantry/stock.py", "if amount < limit:", "if amount <= limit:"),
    "labels": ("pantry/labels.py", "return text.lower()", "return text.strip().lower()"),
    "rotation": ("pantry/rotation.py", "return ordered[: count - 1]", "return ordered[:count]"),
    "prices": ("pantry/prices.py", "cost = price + amount", "cost = price * amount"),
    "shelf": ("pantry/shelf.py", "self.jars[place] = old", "self.jars[place] = new"),
    "fridge": ("pantry/fridge.py", "closed or not too_warm", "closed and not too_warm"),
    "guests": ("pantry/guests.py", '[guest["diet"] for', '[guest["name"] for'),
    "budget": ("pantry/budget.py", "total = bills[shop]", "total += bills[shop]"),
    "scales": ("pantry/scales.py", "/ len(readings)", "/ len(readings) if readings else 0"),
    "report": ("pantry/report.py", '    "\\n".join(lines)', '    return "\\n".join(lines)'),
}


def load_builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pantry", EXAMPLES / "make_pantry.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_pantry"] = module
    spec.loader.exec_module(module)
    return module


def passes(repo: Path, *modules: str) -> bool:
    """Whether every named unittest module passes in `repo`; true for none named only if the whole suite passes."""
    done = subprocess.run(
        [sys.executable, "-B", "-m", "unittest", *modules], cwd=repo, capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (0, 1), done.stderr
    assert "Ran 0 tests" not in done.stderr
    return done.returncode == 0


@pytest.fixture
def pantry(tmp_path: Path) -> Path:
    """A copy of the folder examples/pantry."""
    return Path(shutil.copytree(EXAMPLES / "pantry", tmp_path / "pantry", ignore=shutil.ignore_patterns("__pycache__")))


def repair(repo: Path, name: str) -> None:
    file, wrong, right = REPAIRS[name]
    text = (repo / file).read_text()
    assert text.count(wrong) == 1, "the wrong line must be unique in its file"
    (repo / file).write_text(text.replace(wrong, right))


def hidden_test_passes(repo: Path, name: str) -> bool:
    shutil.copy(EXAMPLES / ISSUES[name]["hidden"], repo / "tests" / "test_hidden.py")
    verdict = passes(repo, "tests.test_hidden")
    (repo / "tests" / "test_hidden.py").unlink()
    return verdict


def test_the_bundle_is_what_the_script_builds(tmp_path: Path) -> None:
    built, cloned = tmp_path / "built", tmp_path / "cloned"
    built.mkdir()
    commits = load_builder().build(built)
    subprocess.run(["git", "clone", "--quiet", str(EXAMPLES / "pantry.bundle"), str(cloned)], check=True)
    log = subprocess.run(
        ["git", "rev-list", "--reverse", "HEAD"], cwd=cloned, check=True, capture_output=True, text=True
    )
    assert log.stdout.split() == commits
    assert len(commits) >= 10
    for path in (EXAMPLES / "pantry").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (cloned / path.relative_to(EXAMPLES / "pantry")).read_bytes() == path.read_bytes()


def test_each_repair_is_known() -> None:
    assert ISSUES.keys() == REPAIRS.keys()
    assert {path.name for path in (EXAMPLES / "issues").iterdir()} == {f"{name}.md" for name in ISSUES}
    for entry in ISSUES.values():
        assert set(entry) == {"name", "issue", "test", "hidden"}
        assert (EXAMPLES / entry["issue"]).is_file() and (EXAMPLES / entry["hidden"]).is_file()


@pytest.mark.parametrize("name", sorted(ISSUES))
def test_a_repair_turns_exactly_its_own_tests(pantry: Path, name: str) -> None:
    command = ISSUES[name]["test"].split()
    assert command[:3] == ["python", "-m", "unittest"]
    visible = command[3]
    others = [f"tests.{p.stem}" for p in (pantry / "tests").glob("test_*.py") if f"tests.{p.stem}" != visible]
    broken = {entry["test"].split()[3] for other, entry in ISSUES.items() if other != name}
    assert not passes(pantry, visible)
    assert not hidden_test_passes(pantry, name)
    repair(pantry, name)
    assert passes(pantry, visible)
    assert hidden_test_passes(pantry, name)
    assert passes(pantry, *(module for module in others if module not in broken))


def test_all_repairs_together_leave_nothing_broken(pantry: Path) -> None:
    for name in REPAIRS:
        repair(pantry, name)
    assert passes(pantry)


@pytest.mark.parametrize("name", sorted(ISSUES))
def test_issue_and_file_fit_a_small_prompt(name: str) -> None:
    file = REPAIRS[name][0]
    issue = (EXAMPLES / ISSUES[name]["issue"]).read_text()
    assert len(issue) + len((EXAMPLES / "pantry" / file).read_text()) < 1500
    assert 3 <= len([line for line in issue.splitlines() if line.strip()]) <= 8
