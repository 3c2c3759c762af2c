"""What an instance's tests need: the Python version and the exact packages, from pinned exports and version tables.

Knows two kinds of file that SWE-bench published: conda exports (`<owner>__<name>/<number>/environment.yml`) and the
table of repository versions (`map_repo_version_to_specs_py.json`, dropped in swebench 5). Installs nothing.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.configs import load_config, load_yaml

_PYTHON_BUILD = re.compile(r"(^|_)py(\d|h|ge|_)")
_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.!+_-]+)?")
_NETWORK = re.compile(r"\b(apt|apt-get|curl|wget|conda)\b")


class Recipe(Frozen):
    """How to make the environment of one repository version."""

    repo: str
    version: str
    python: str
    """Major and minor version, as "3.9"."""
    pins: tuple[str, ...]
    """`name==version`, or a bare name where nobody pinned it."""
    prepare: tuple[str, ...] = ()
    """Shell commands for the checkout before the project is installed; none of them needs a network."""
    notes: tuple[str, ...] = ()
    """What had to be left out, for people."""
    source: str = ""
    """Where the pins are from, without folders of this machine."""

    @cached_property
    def key(self) -> str:
        """A name for the environment's folder: equal for equal recipes."""
        said = json.dumps([self.repo, self.version, self.python, self.pins, self.prepare])
        return f"{_safe(self.repo)}-{_safe(self.version)}-{hashlib.sha256(said.encode()).hexdigest()[:10]}"


class Pins:
    """The files of pins that are at hand. Either may be missing."""

    def __init__(self, environments: Path | None, specs: Path | None) -> None:
        self._environments = environments
        self._specs: Mapping[str, Any] = _read_specs(specs) if specs else {}

    @classmethod
    def beside(cls, dataset: Path, environments: Path | None = None, specs: Path | None = None) -> "Pins":
        """Those given, else `environments/` and `map_repo_version_to_specs_py.json` in the dataset's folder."""
        folder, table = dataset.parent / "environments", dataset.parent / "map_repo_version_to_specs_py.json"
        for given in (environments, specs):
            if given is not None and not given.exists():
                raise InputError(f"{given}: no such file or folder of pins")
        return cls(environments or (folder if folder.is_dir() else None), specs or (table if table.is_file() else None))

    def recipe(self, instance_id: str, repo: str, version: str, versions: Mapping[str, str] | None = None) -> Recipe:
        """The recipe of an instance: its own export; else one of the same version, by `versions` (instance id to
        version); else the table's packages; else the export with the nearest number.

        Raises InputError where there is none of them.
        """
        specs = self._specs.get(repo, {}).get(version, {})
        prepare = tuple(line for line in specs.get("pre_install", ()) if not _NETWORK.search(line))
        notes = tuple(f"not run: {line}" for line in specs.get("pre_install", ()) if _NETWORK.search(line))
        found = self._export_for(instance_id, repo, version, versions or {}, exact=True)
        if found is None and not specs.get("pip_packages"):
            found = self._export_for(instance_id, repo, version, versions or {}, exact=False)
        if found is not None:
            python, pins, left_out = read_export(found)
            source = f"environments/{found.parent.parent.name}/{found.parent.name}"
        elif specs:
            python, pins, left_out = str(specs["python"]), _packages_of(repo, specs), ()
            source = "the table of versions"
        else:
            raise InputError(f"{instance_id}: nothing pins its environment ({repo} {version}): give --environments")
        return Recipe(
            repo=repo, version=version, python=python, pins=pins, prepare=prepare, notes=notes + left_out, source=source
        )

    def _export_for(
        self, instance_id: str, repo: str, version: str, versions: Mapping[str, str], *, exact: bool
    ) -> Path | None:
        if self._environments is None:
            return None
        folder = self._environments / repo.replace("/", "__")
        number = _number(instance_id)
        exports = {_number(path.parent.name): path for path in folder.glob("*/environment.yml")}
        if number in exports or not exports:
            return exports.get(number)
        known = {_number(other): each for other, each in versions.items() if other.startswith(f"{folder.name}-")}
        pool = {each for each in exports if known.get(each) == version} if exact else set(exports)
        return exports[min(pool, key=lambda each: (abs(each - number), each))] if pool else None


def read_export(path: Path) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Python version, pins and notes of a conda export. What is no Python package is skipped without a note.

    Raises InputError where the file is none.
    """
    loaded = load_yaml(path)
    listed = loaded.get("dependencies") if isinstance(loaded, dict) else None
    if not isinstance(listed, list):
        raise InputError(f"{path}: no conda environment: it has no list of dependencies")
    names = load_config("conda_names")
    python, pins, notes = "", {}, []
    for line in (entry for entry in listed if isinstance(entry, str)):
        name, version, build = [*line.split("="), "", ""][:3]
        if name == "python":
            python = ".".join(version.split(".")[:2])
        elif _PYTHON_BUILD.search(build) and name not in names["conda_only"]:
            called = names["names"].get(name, name)
            pins[_canonical(called)] = f"{called}=={version}"
        elif name in names["conda_only"] and build:
            notes.append(f"left out: {name} {version} (conda only)")
    for line in (line for entry in listed if isinstance(entry, dict) for line in entry.get("pip") or ()):
        if not isinstance(line, str) or not _PIN.fullmatch(line):
            raise InputError(f"{path}: not a pin: {str(line)[:80]!r}")
        pins[_canonical(line.split("==")[0])] = line
    if not python:
        raise InputError(f"{path}: it names no Python version")
    return python, tuple(pins[name] for name in sorted(pins)), tuple(notes)


def _packages_of(repo: str, specs: Mapping[str, Any]) -> tuple[str, ...]:
    listed = [str(pin).replace(" ", "") for pin in specs.get("pip_packages", ())]
    listed += [word for word in str(specs.get("packages", "")).split() if not word.endswith((".txt", ".yml"))]
    if not any(pin.startswith("pytest==") for pin in listed) and repo != "pytest-dev/pytest":
        listed.append("pytest")
    return tuple(dict.fromkeys(pin for pin in listed if _PIN.fullmatch(pin)))


def _read_specs(path: Path) -> Mapping[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable table of versions: {str(error).splitlines()[0]}") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, dict) for value in loaded.values()):
        raise InputError(f"{path}: not a table of repository versions")
    return loaded


def _number(name: str) -> int:
    digits = re.search(r"(\d+)$", name)
    return int(digits[1]) if digits else -1


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "__", name)[:60].lstrip(".") or "none"
