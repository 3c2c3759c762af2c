"""Which Pythons this machine has: of pyenv, of uv, on PATH. Starts each that it considers, once, to ask what it is."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen

_ASK = (
    "import json, sys, importlib.util as u; print(json.dumps([list(sys.version_info[:3]), sys.base_prefix, "
    "getattr(sys, '_base_executable', sys.executable), all(u.find_spec(n) for n in ('venv', 'ensurepip', 'pip'))]))"
)


class Interpreter(Frozen):
    """A Python that can make virtual environments."""

    path: Path
    version: str
    prefix: Path
    """The folder that holds it and its standard library."""


def find_interpreter(version: str) -> Interpreter:
    """A Python of `version` ("3.9"), the newest of its patch releases. Raises InputError naming what to install.

    Its folder is shown to what runs in a sandbox, so one that holds the user's home is not taken.
    """
    if not re.fullmatch(r"\d+\.\d+", version):
        raise InputError(f"{version[:40]!r} is no version of Python, as 3.9 is")
    found = [each for path in dict.fromkeys(_candidates(version)) if (each := _ask(path, version))]
    if not found:
        raise InputError(f"no Python {version} here: `pyenv install {version}` or `uv python install {version}`")
    return max(found, key=lambda each: [int(part) for part in each.version.split(".")])


def _candidates(version: str) -> Iterator[Path]:
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".") if part.isdigit()):
        yield Path(sys.executable)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home raises where there is none
    yield from Path(os.environ.get("PYENV_ROOT") or home / ".pyenv").glob(f"versions/{version}.*/bin/python")
    kept = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / "uv/python"
    yield from Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or kept).glob(f"cpython-{version}.*/bin/python{version}")
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if folder.startswith("/") and (program := shutil.which(f"python{version}", path=folder)):
            yield Path(program)


def _ask(path: Path, version: str) -> Interpreter | None:
    try:
        answer = subprocess.run([path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=20, check=True)
        numbers, prefix, executable, complete = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if not complete or ".".join(str(number) for number in numbers[:2]) != version:
        return None
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111
    if Path(prefix) == Path("/") or home.is_relative_to(Path(prefix).resolve()):
        return None
    return Interpreter(path=Path(executable), version=".".join(map(str, numbers)), prefix=Path(prefix))
