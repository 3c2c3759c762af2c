"""What is declared is what is used: dependencies, extras, the exact set, the command, the choice of torch."""

import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_layout import PACKAGE, TRAINING, imports, modules

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
}


def direct(lists: list[list[str]]) -> dict[str, Requirement]:
    """Requirements by name; the project's references to its own extras are left out."""
    found = (Requirement(text) for texts in lists for text in texts)
    return {canonicalize_name(one.name): one for one in found if one.name != PROJECT["name"]}


def closure(requirements: list[Requirement]) -> set[str]:
    """Names of everything that `requirements` pull in on this machine, read from what is installed."""
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(one.name), extra) for one in requirements for extra in ("", *one.extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in metadata.requires(name) or []:
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({**default_environment(), "extra": extra}):
                waiting += [(canonicalize_name(one.name), wanted) for wanted in ("", *one.extras)]
    return {name for name, _ in seen}


def owner(module: str, candidates: list[str]) -> str:
    """Which of the distributions that share a top-level name brings the module, its longest known prefix deciding."""
    parts = module.split(".")
    if len(set(candidates)) == 1:
        return candidates[0]
    owned = {name: {file.as_posix() for file in metadata.files(name) or []} for name in set(candidates)}
    for length in range(len(parts), 0, -1):
        stem = "/".join(parts[:length])
        for name, files in owned.items():
            if {f"{stem}.py", f"{stem}/__init__.py"} & files:
                return name
    return candidates[0]


def imported(*folders: Path) -> set[str]:
    """The distributions that `folders` import; a name that nothing installed brings stands for itself."""
    owners = metadata.packages_distributions()
    names = {name for path in modules(*folders) for _, name in imports(path)}
    known = {*sys.stdlib_module_names, "steergraph", "training", ""}
    third = {name for name in names if name.split(".")[0] not in known}
    return {canonicalize_name(owner(name, owners.get(name.split(".")[0], [name]))) for name in third}


def test_every_import_is_declared() -> None:
    assert imported(PACKAGE, TRAINING) - direct([PROJECT["dependencies"], *EXTRAS.values()]).keys() == set()


def test_every_dependency_is_imported() -> None:
    assert direct([PROJECT["dependencies"]]).keys() - imported(PACKAGE) == set()


def test_the_exact_set_fits_the_ranges() -> None:
    for name, requirement in direct([PROJECT["dependencies"], *EXTRAS.values()]).items():
        assert name in PINS, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(PINS[name]), f"{name}=={PINS[name]} is outside {requirement.specifier}"


@pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info[:2] != (3, 11) or "+cpu" not in metadata.version("torch"),
    reason="the exact set is CI's: Linux, Python 3.11, a CPU build of torch",
)
def test_the_exact_set_is_the_whole_tree_and_nothing_else() -> None:
    requirements = list(direct([PROJECT["dependencies"], *EXTRAS.values()]).values())
    own = {"setuptools"}  # the interpreter's own, not installed by us
    assert closure(requirements) - own == PINS.keys() - own


def test_the_command_is_installed() -> None:
    (entry,) = metadata.entry_points(group="console_scripts", name="steergraph")
    assert entry.value == "steergraph.cli:main"
    assert callable(entry.load())


def test_the_module_runs_and_says_its_version() -> None:
    done = subprocess.run([sys.executable, "-m", "steergraph", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"steergraph {metadata.version('steergraph')}\n"


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys, steergraph, steergraph.cli.app; "
        "print(*sorted({'torch', 'transformers', 'langgraph', 'swebench', 'pyarrow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_licence_and_type_marker() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text() and PROJECT["license"] == "Apache-2.0"
    assert (ROOT / "steergraph" / "py.typed").is_file()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_torch_build_is_chosen_once_and_remembered(tmp_path: Path) -> None:
    def plan(*arguments: str) -> str:
        command = ["make", "-n", "setup", f"VENV={tmp_path}", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    def choose(torch: str) -> None:
        command = ["make", f"{tmp_path}/.torch", f"VENV={tmp_path}", f"TORCH={torch}"]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)

    locked = f"torch=={PINS['torch']}"
    other = "torch<2.12 --no-cache-dir"
    assert f" '{locked}'\n" in plan()
    assert " 'torch<2.12' '--no-cache-dir'\n" in plan(f"TORCH={other}")
    choose(other)
    assert " 'torch<2.12' '--no-cache-dir'\n" in plan()
    choose(locked)
    assert f" '{locked}'\n" in plan()
