"""Environments for tests: a virtual environment with an instance's pins and its project installed, made once and kept.

Knows interpreters, wheels, and the layout that an eval script expects (`/testbed`, conda's `testbed` environment under
`/opt/miniconda3`), which it stands in for with a shim and mounts. Knows nothing of patches or verdicts.

Packages are fetched first: the only step with a network, in which no code of theirs runs. All else, building those that
come as source and the project's own installation included, runs in the sandbox without a network. A pin that cannot be
had is left out and noted; what the project's installation then misses is fetched and noted. Whether that will do is not
judged here: the gold patch shows it.
"""

import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil

from steergraph.base.errors import InputError
from steergraph.base.files import held, write_whole
from steergraph.base.records import Frozen
from steergraph.evals.grading.interpreters import Interpreter, find_interpreter
from steergraph.evals.grading.pins import Recipe
from steergraph.evals.grading.wheels import MISSING, fetch_sources, fetch_wheels
from steergraph.repo.working_copy import remove_tree
from steergraph.sandbox.run import Mount, RunResult, Sandbox

CONDA = "/opt/miniconda3"
PREFIX = f"{CONDA}/envs/testbed"
TESTBED = "/testbed"
WHEELS = "/opt/wheels"
UV = "/opt/uv"
_UV_OPTIONS = (
    f"--python {PREFIX}/bin/python --offline --no-index --find-links {WHEELS} --no-cache --link-mode copy "
    "--compile-bytecode --no-build"
)
VARIABLES = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": WHEELS,
    "PIP_RETRIES": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}
"""What a script inside sees and nothing else; `SETUPTOOLS_SCM_PRETEND_VERSION` is added, for copies have no tags."""
_ACTIVATE = f"""\
# Stands in for conda's own: there is one environment, and activating it puts it first on PATH.
conda() {{
    if [ "${{1:-}}" = activate ]; then
        export CONDA_PREFIX={PREFIX} CONDA_DEFAULT_ENV="${{2:-base}}" VIRTUAL_ENV={PREFIX}
        case ":$PATH:" in *:{PREFIX}/bin:*) ;; *) export PATH="{PREFIX}/bin:$PATH" ;; esac
    fi
}}
"""
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.\[\],-]*\s*(?:\(?\s*[=<>!~]=?[\w\s.,=<>!~*+-]+\)?)?")
_ROUNDS = 8


class EnvironmentFailed(InputError):
    """An environment cannot be made. One line: at what, and what was said."""


class Environment(Frozen):
    """A finished environment: `folder` has `env` (the tree for PREFIX), `wheels`, `activate` and `environment.json`.

    `shared` has the large packages, at their places in `env`, where empty folders are left to mount them on, read-only.
    """

    folder: Path
    key: str
    version: str
    interpreter: Path
    """The folder of the Python that it is of, which it needs to start."""
    notes: tuple[str, ...]

    def mounts(self, testbed: Path, env: Path) -> list[Mount]:
        """What an eval script expects, with `testbed` and `env` (copies) writable; large packages are not copied."""
        shared = self.folder / "shared"
        return [
            Mount(self.interpreter, str(self.interpreter)),
            Mount(testbed, TESTBED, True),
            Mount(env, PREFIX, True),
            Mount(self.folder / "activate", f"{CONDA}/bin/activate"),
            Mount(self.folder / "wheels", WHEELS),
            *(Mount(package, f"{PREFIX}/{package.relative_to(shared)}") for package in sorted(shared.glob("*/*/*/*"))),
        ]


def run_script(
    sandbox: Sandbox, words: Sequence[str], work: Path, mounts: Sequence[Mount], version: str, **bounds: float
) -> RunResult:
    """Run `words` over the folder `work` with the variables of a test environment and no others."""
    number = re.match(r"\d+(\.\d+)*", version)
    pretend = [f"SETUPTOOLS_SCM_PRETEND_VERSION={number[0]}"] if number else []
    clean = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in VARIABLES.items()), *pretend]
    return sandbox.run([*clean, *words], work, mounts=mounts, **bounds)  # type: ignore[arg-type]


def environment_for(
    recipe: Recipe, testbed: Path, install: str, sandbox: Sandbox, cache: Path, *, fetch: bool = True
) -> Environment:
    """The environment of `recipe`, from the cache or made now.

    Args:
        testbed: a checkout of the project at the commit that is installed; it is copied.
        install: the commands of the eval script that install the project.
        cache: the folder of all environments.
        fetch: False asks no package index: an environment that needs packages is then one that is there already.

    Raises EnvironmentFailed. Two processes do not make one environment twice: the second waits.
    """
    folder = cache / recipe.key
    with locked(cache, recipe.key):
        if (folder / "environment.json").is_file():
            return _load(folder)
        try:
            interpreter = find_interpreter(recipe.python)
        except InputError as error:
            raise EnvironmentFailed(str(error)) from error
        with temporary(cache) as made:
            notes = _make(recipe, interpreter, testbed, install, sandbox, made, fetch)
            manifest = {
                "recipe": recipe.model_dump(),
                "python": interpreter.version,
                "interpreter": str(interpreter.prefix),
                "notes": [*recipe.notes, *notes],
            }
            (made / "environment.json").write_text(json.dumps(manifest, indent=1) + "\n")
            remove_tree(folder)
            made.rename(folder)
        return _load(folder)


def add_missing(environment: Environment, log: str) -> bool:
    """Fetch what pip did not find in a test log, for later runs to install. False where there is nothing to be had.

    Instances of one version can ask for different packages, and pins are of one of them. Raises FetchFailed.
    """
    manifest = environment.folder / "environment.json"
    with locked(environment.folder.parent, environment.key):
        said = json.loads(manifest.read_text())
        notes = {each: f"added: {each} (an instance's installation asks for it)" for each in _asked_for(log)}
        new = [each for each, note in notes.items() if note not in said["notes"]]
        if not new:
            return False
        refused = fetch_wheels(
            find_interpreter(said["recipe"]["python"]), new, environment.folder / "wheels", deps=True
        )
        said["notes"] += [notes[each] for each in new if each not in refused]
        write_whole(manifest, json.dumps(said, indent=1) + "\n")
    return len(refused) < len(new)


def _asked_for(log: str) -> list[str]:
    """What pip says it has not found; nothing where one of them does not look like a requirement."""
    # Without the marker of an extra: `tox; extra == "dev"`.
    asked = sorted({each.split(";")[0].strip() for each in MISSING.findall(log)})
    return asked if all(_REQUIREMENT.fullmatch(each) for each in asked) else []


def _load(folder: Path) -> Environment:
    said = json.loads((folder / "environment.json").read_text())
    prefix = Path(said["interpreter"])
    if not prefix.is_dir():
        raise EnvironmentFailed(f"{folder.name}: its Python ({prefix}) is gone: remove {folder} to make it anew")
    return Environment(
        folder=folder,
        key=folder.name,
        version=said["recipe"]["version"],
        interpreter=prefix,
        notes=tuple(said["notes"]),
    )


def _make(
    recipe: Recipe, python: Interpreter, testbed: Path, install: str, sandbox: Sandbox, made: Path, fetch: bool
) -> list[str]:
    """Fill the folder `made`. Returns notes."""
    wheels, notes = made / "wheels", []
    for folder in (wheels, made / "env"):
        folder.mkdir()
    (made / "activate").write_text(_ACTIVATE)
    pins, sources = list(recipe.pins), []
    if fetch:
        tools = [name for name in ("setuptools", "wheel") if not any(pin.startswith(name + "==") for pin in pins)]
        refused = fetch_wheels(python, [*pins, *tools], wheels, deps=any("==" not in pin for pin in pins))
        pins = [pin for pin in pins if pin not in refused]
        sources = fetch_sources(python, refused, wheels)
        notes += [f"left out: {pin} (not found)" for pin in refused if pin not in sources]
    environment = Environment(folder=made, key=recipe.key, version=recipe.version, interpreter=python.prefix, notes=())
    work = made / "work"
    shutil.copytree(testbed, work / "testbed", symlinks=True)
    (work / "pins.txt").write_text("\n".join(pins) + "\n")
    uv = shutil.which("uv")
    mounts = [*environment.mounts(work / "testbed", made / "env"), *([Mount(Path(uv), UV)] if uv else [])]

    def step(script: str) -> RunResult:
        words = ["/bin/bash", "-c", script]
        bounds = {"timeout_s": 1800, "memory_mb": 8192, "disk_mb": 8192, "output_bytes": 4 << 20, "max_processes": 512}
        return run_script(sandbox, words, work, mounts, recipe.version, **bounds)

    exact = "--no-deps" if all("==" in pin for pin in pins) else ""
    listed = f"{exact} -r /workspace/pins.txt"
    installed = f"{PREFIX}/bin/python -m pip install {listed}"
    if uv:  # quicker; what it refuses, an old Python say, pip does, or says why not
        installed = f"{UV} pip install {_UV_OPTIONS} {listed} >/tmp/uv.log 2>&1 || {installed}"
    result = step(f"set -e; {shlex.quote(str(python.path))} -m venv {PREFIX}; {installed}")
    if result.exit_code != 0:
        raise EnvironmentFailed(f"{recipe.key}: its packages cannot be installed: {_telling(result)}")
    for pin in sources:
        if step(f"{PREFIX}/bin/python -m pip install --no-deps '{pin}'").exit_code != 0:
            notes.append(f"left out: {pin} (cannot be built)")
    prepare = "; ".join(["true", *recipe.prepare])
    for _ in range(_ROUNDS):
        result = step(f"source {CONDA}/bin/activate; conda activate testbed; cd {TESTBED}; {prepare}; {install}")
        if result.exit_code == 0:
            break
        asked = _asked_for(result.output)
        if not fetch or not asked:
            raise EnvironmentFailed(f"{recipe.key}: the project cannot be installed: {_telling(result)}")
        refused = fetch_wheels(python, asked, wheels, deps=True)
        if lost := set(refused) - set(fetch_sources(python, refused, wheels)):
            raise EnvironmentFailed(f"{recipe.key}: {min(lost)}, which the project needs to be installed, is not found")
        notes += [f"added: {each} (the project's installation asks for it)" for each in asked]
    else:
        raise EnvironmentFailed(f"{recipe.key}: the project's installation asks for ever more packages")
    remove_tree(work)
    share_large(made)
    return notes


def share_large(folder: Path, least: int = 16 << 20) -> None:
    """Move packages of `least` bytes or more from an environment's `env` to `shared`: each run copies `env`."""
    for package in list((folder / "env").glob("lib/python3.*/site-packages/*")):
        if package.is_symlink() or not package.is_dir():
            continue
        if sum(path.lstat().st_size for path in package.rglob("*") if not path.is_dir()) >= least:
            place = folder / "shared" / package.relative_to(folder / "env")
            place.parent.mkdir(parents=True, exist_ok=True)
            package.rename(place)
            package.mkdir()


def _telling(result: RunResult) -> str:
    lines = [line.strip() for line in result.output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|error|\w*Error)\b", line)]
    why = f"it passed its {result.killed_reason} limit" if result.killed_reason else ""
    return (why or (errors or lines or ["it failed without a word"])[-1])[:300]


def locked(cache: Path, key: str) -> AbstractContextManager[None]:
    """Hold a name in the cache, against other threads and processes; waits for it."""
    cache.mkdir(parents=True, exist_ok=True)
    return held(cache / f".{key}.lock", patience_s=None)


@contextmanager
def temporary(cache: Path) -> Iterator[Path]:
    """A folder in the cache that is removed unless it was renamed; those of processes that are gone go first."""
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.glob(".making-*"):
        owner = old.name.split("-")[1]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            remove_tree(old)
    made = Path(tempfile.mkdtemp(prefix=f".making-{os.getpid()}-", dir=cache))
    try:
        yield made
    finally:
        if made.exists():
            remove_tree(made)
