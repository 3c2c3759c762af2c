"""Whose sources a test command imports: those of the copy it runs in, or another tree's that is installed here.

An environment with the user's own tree installed (`pip install -e .`) would have a test say nothing of the copy. So the
copy's sources come first, and a probe says where that was not enough. Knows how Python projects say where their
packages lie. Knows nothing of what a test says.
"""

import configparser
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from steergraph.base.errors import one_line
from steergraph.sandbox.run import Sandbox

_MOST_NAMES = 50
_NO_SOURCES = {"setup", "conftest"}
_PYTHON = re.compile(r"(?:^|[\s;&|(])((?:[\w./~+-]*/)?python[\d.]*)((?:\s+-[bBdEIOPsSuvx]+)*)(?=\s)")
_SET_BEFORE = re.compile(r"\s*((?:[A-Za-z_]\w*=[^\s'\"`;&|]*\s+)*)")
_PROBE = """
import importlib.util, os, sys
here = os.path.realpath(os.getcwd()) + os.sep
for name in sys.argv[1:]:
    try:
        spec = importlib.util.find_spec(name)
    except Exception:
        continue
    if spec is None or spec.origin in ("built-in", "frozen"):
        continue
    for place in [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())[:1]:
        if not os.path.realpath(place).startswith(here):
            print("elsewhere:" + name + ":" + ascii(place)[1:-1])
"""
# Found without being imported: no code of the repository runs for it.


def import_path(root: Path, place: str) -> dict[str, str]:
    """The variable that puts the sources of the copy `root`, which a command sees at `place`, before all others."""
    return {"PYTHONPATH": ":".join(str(PurePosixPath(place, folder)) for folder in import_roots(root))}


def import_roots(root: Path) -> list[str]:
    """Folders of a project that its packages are imported from, relative to it: what its settings name, src, itself."""
    named = [*_of_pyproject(root / "pyproject.toml"), *_of_setup_cfg(root / "setup.cfg"), "src", "."]
    return list(dict.fromkeys(folder for name in named if (folder := _folder(root, name)) is not None))


def elsewhere(command: str, root: Path, sandbox: Sandbox) -> str | None:
    """What `command` would import of the project in the copy `root` from elsewhere, in one line; None where nothing."""
    names = _names(root)
    if not names:
        return None
    python = _PYTHON.search(command)
    before = _SET_BEFORE.match(command)
    program = f"{before[1] if before else ''}{python[1] + python[2] if python else 'python'}"
    result = sandbox.run(
        f"{program} -c {shlex.quote(_PROBE)} {' '.join(names)}",
        root,
        timeout_s=60.0,
        env=import_path(root, sandbox.place(root)),
    )
    found = re.findall(r"^elsewhere:(\w+):(.+)$", result.output, re.MULTILINE)
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return one_line(f"{found[0][0]} is {found[0][1]}{more}") if found else None


def _names(root: Path) -> list[str]:
    """The packages and modules that lie in the project's import roots."""
    found: list[str] = []
    for folder in import_roots(root):
        for entry in sorted((root / folder).iterdir()):
            is_package = (entry / "__init__.py").is_file()
            if (is_package or entry.suffix == ".py") and entry.stem.isidentifier() and entry.stem not in _NO_SOURCES:
                found.append(entry.stem)
    return list(dict.fromkeys(found))[:_MOST_NAMES]


def _of_pyproject(path: Path) -> Iterator[str]:
    """Folders that setuptools, Poetry, Hatch, PDM and Maturin are told of."""
    try:
        tool = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError):
        return
    yield from _strings(_at(tool, "setuptools", "package-dir", ""))
    yield from _strings(_at(tool, "setuptools", "packages", "find", "where"))
    for package in _list(_at(tool, "poetry", "packages")):
        yield from _strings(_at(package, "from"))
    wheel = _at(tool, "hatch", "build", "targets", "wheel")
    for package in _strings(_at(wheel, "packages")):
        yield str(PurePosixPath(package).parent)
    yield from _strings(_at(wheel, "sources"))
    yield from _strings(_at(tool, "pdm", "build", "package-dir"))
    yield from _strings(_at(tool, "maturin", "python-source"))


def _of_setup_cfg(path: Path) -> Iterator[str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):
        return
    for line in parser.get("options", "package_dir", fallback="").splitlines():
        package, equals, folder = line.partition("=")
        if equals and not package.strip():
            yield folder.strip()
    yield from parser.get("options.packages.find", "where", fallback="").split()


def _folder(root: Path, name: str) -> str | None:
    """`name` as a folder inside `root`, or None: it may say anything."""
    try:
        inside = (root / name).resolve().relative_to(root.resolve())
        return inside.as_posix() if (root / inside).is_dir() and ":" not in str(inside) else None
    except (ValueError, OSError):
        return None


def _at(table: Any, *keys: str) -> Any:
    for key in keys:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _strings(value: Any) -> Iterable[str]:
    """A string, or the strings of a list."""
    return [one for one in [value, *_list(value)] if isinstance(one, str)]
