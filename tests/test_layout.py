"""The house keeps its shape: links, floors, what is packed, how long a module is, and no path of one machine."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TRAINING = ROOT / "steergraph", ROOT / "training"
LINKS = ("agents", "vectors", "retrieval", "evals", "configs")
# An import only ever points down (docs/architecture.md). What lies directly in the package is the face; `training` is
# not in the package, and nothing of it imports that.
FLOORS = {
    **{"training": 10, "face": 9, "cli": 8, "chat": 7, "web": 7, "evals": 6, "agents": 5, "vectors": 4, "retrieval": 4},
    **{"engine": 3, "repo": 3, "sandbox": 3, "pocket": 2, "configs": 1, "base": 0},
}
MOST_MODULES = 16
CROWDED = {"steergraph/retrieval": 17, "steergraph/pocket": 21}  # on their way down
LONGEST = 300
LONGER: dict[str, int] = {}  # modules that may be longer, and how long; the fewer the better
MODEL_LIBRARIES = {"torch", "transformers", "safetensors", "tokenizers"}


@cache
def tracked() -> tuple[Path, ...]:
    """What git tracks here and is still there; links are not followed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.split("\0") if name]
    return tuple(ROOT / name for name in names if (ROOT / name).is_file() and not (ROOT / name).is_symlink())


def modules(*folders: Path) -> list[Path]:
    """The package's modules and training's, or those of `folders`."""
    found = (path for folder in folders or (PACKAGE, TRAINING) for path in folder.rglob("*.py"))
    return sorted(path for path in found if "__pycache__" not in path.parts)


def room(module: str) -> str:
    """The sub-package a dotted name belongs to, "face" for what lies directly in the package; or "training"."""
    parts = module.split(".")
    if parts[0] == "training":
        return "training"
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else "face"


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, wherever in the module; "." stands for a relative one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "."
            elif node.module == "steergraph":
                for alias in node.names:
                    yield node.lineno, f"steergraph.{alias.name}"
            elif node.module:
                yield node.lineno, node.module


@pytest.mark.parametrize("name", LINKS)
def test_the_link_points_into_the_package(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert link.readlink() == Path("steergraph") / name
    assert (link / "__init__.py").is_file()


def test_every_room_has_a_floor() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= FLOORS.keys()


def test_imports_point_down() -> None:
    wrong = []
    for path in modules():
        here = room(dotted(path))
        for line, name in imports(path):
            if name.split(".")[0] not in ("steergraph", "training"):
                continue
            there = room(name)
            if there != here and FLOORS[there] >= FLOORS[here]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {name} of {there}")
    assert not wrong, "\n".join(wrong)


def test_no_import_circles() -> None:
    """At run time and for type checkers alike: an import inside a function or under TYPE_CHECKING counts."""
    known = {dotted(path) for path in modules()}
    graph: dict[str, set[str]] = {}
    for path in modules():
        graph[dotted(path)] = known & set(imported_modules(path))
    seen: dict[str, int] = {}
    circles = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circles.append(" > ".join((*trail[trail.index(name) :], name)))
        elif name not in seen:
            for there in sorted(graph[name]):
                visit(there, (*trail, name))
            seen[name] = 1

    for name in sorted(graph):
        visit(name, ())
    assert not circles, circles


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names of the modules that are imported; `from package import module` means the module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = ROOT.joinpath(*node.module.split("."), f"{alias.name}.py").is_file()
                yield f"{node.module}.{alias.name}" if inner else node.module


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in modules()}
    counts = {
        str(folder.relative_to(ROOT)): len([p for p in folder.glob("*.py") if p.name != "__init__.py"])
        for folder in folders
    }
    assert not {name: count for name, count in counts.items() if count > CROWDED.get(name, MOST_MODULES)}


def test_no_relative_imports() -> None:
    wrong = [f"{path.relative_to(ROOT)}:{line}" for path in modules() for line, name in imports(path) if name == "."]
    assert not wrong, wrong


def test_retrieval_knows_nothing_of_models() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in (PACKAGE / "retrieval").rglob("*.py")
        for line, name in imports(path)
        if name.split(".")[0] in MODEL_LIBRARIES
    ]
    assert not wrong, wrong


def test_modules_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert not {name: length for name, length in lengths.items() if length > LONGER.get(name, LONGEST)}


def test_every_folder_of_the_package_is_packed() -> None:
    """Python files lie in folders that setuptools finds; every other file matches a pattern of package-data."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert settings["packages"]["find"]["include"] == ["steergraph*"]
    matched = {
        file
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    lost = []
    for path in tracked():
        if not path.is_relative_to(PACKAGE) or path.suffix == ".md":
            continue
        if path.suffix == ".py":
            folders = [path.parent, *path.parent.parents]
            packed = all((folder / "__init__.py").is_file() for folder in folders if folder.is_relative_to(PACKAGE))
        else:
            packed = path in matched
        if not packed:
            lost.append(str(path.relative_to(ROOT)))
    assert not lost, f"a wheel would lack {lost}"


def test_no_path_of_one_machine() -> None:
    own = re.compile(r"(?<![\w.}/-])/(?:work|root|Users|mnt)/\w")
    wrong = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), start=1)
            if own.search(line)
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["agents", "evals"])
def test_a_readme_names_every_module(name: str) -> None:
    text = (PACKAGE / name / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+\.py)` \|", text, flags=re.MULTILINE))
    assert named == {path.name for path in (PACKAGE / name).glob("*.py")} - {"__init__.py"}
