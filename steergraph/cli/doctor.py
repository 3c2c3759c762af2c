"""`steergraph doctor`: what this machine has, and what each missing part costs.

Knows how to ask for each part: it imports, starts or connects to the thing and believes only an answer. Knows nothing
of how a part is used, and never fails: a part that raises is a part that is missing.
"""

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from json import dumps
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

import typer

from steergraph.base.folders import cache_folder
from steergraph.base.versions import UNKNOWN, version_of
from steergraph.cli.options import STATE_VARIABLE

SECONDS = 5.0  # how long a program or a server may take to answer
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
_BUILDS = {"cuda": "CUDA", "hip": "ROCm"}
POSTGRES_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


class Finding(NamedTuple):
    """One part of the machine. `cost` says what is lost without it; it is empty where nothing is."""

    part: str
    ok: bool
    found: str
    cost: str = ""


class Missing(Exception):
    """A part is not there. The message says what was found instead."""


def ask(command: Sequence[str]) -> str:
    """Run a program and give what it prints. Raises Missing where it is not there, fails or does not answer in time."""
    program = shutil.which(command[0])
    if program is None:
        raise Missing(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            [program, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{command[0]} gave no answer in {SECONDS:.0f} s") from error
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Missing(f"{command[0]}: {words[-1]}")
    return done.stdout.strip()


def installed(distribution: str) -> str:
    """The installed version of a distribution. Raises Missing where it is not installed."""
    if (version := version_of(distribution)) == UNKNOWN:
        raise Missing("not installed")
    return version


def python() -> str:
    return f"{platform.python_version()} at {sys.executable}"


def machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{platform.system()} {platform.machine()}, {cores} cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found += f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB of memory"
    return f"{found}; {_bfloat16()}"


def _bfloat16() -> str:
    """Whether this processor computes in bfloat16, by what it says of itself. Models run in float32 on it all the same,
    so that results do not go by the machine."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return "models run in float32 on the CPU"
    found = ", ".join(sorted(flags & BFLOAT16))
    return "models run in float32 on the CPU, which has " + (f"bfloat16 ({found})" if found else "no bfloat16")


def torch_build() -> str:
    """Its version and what it was built for, read beside it: importing it takes seconds."""
    version = installed("torch")
    return f"{version} ({_torch_built_for() or 'CPU only'})"


def accelerator() -> str:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "Apple GPU (mps)"
    built_for = _torch_built_for()
    if "ROCm" in built_for and Path("/dev/kfd").exists():
        return "AMD GPU (ROCm)"
    try:
        listed = ask(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"])
        name, mebibytes = listed.splitlines()[0].rsplit(", ", 1)
        found = f"{name}, {float(mebibytes) / 1024:.0f} GiB"
    except (Missing, ValueError, IndexError):
        raise Missing("none, models run on the CPU") from None
    if "CUDA" not in built_for:
        raise Missing(f"{found}, but this torch is not built for CUDA: models run on the CPU")
    return found


def _torch_built_for() -> str:
    """ "CUDA 12.8", say, as torch's own version file has it; "" for the CPU only, or where there is no such file."""
    try:
        text = Path(str(metadata.distribution("torch").locate_file("torch/version.py"))).read_text(encoding="utf-8")
    except (metadata.PackageNotFoundError, OSError):
        return ""
    found = re.search(r"^(cuda|hip)\b[^=]*= '([^']+)'", text, flags=re.MULTILINE)
    return f"{_BUILDS[found[1]]} {found[2]}" if found else ""


def sandbox(*kinds: Literal["bwrap", "docker", "podman"]) -> str:
    """Set up the first of these sandboxes that a run would use, and run a command in it."""
    from steergraph.sandbox.run import Sandbox, SandboxUnavailable

    problems = []
    for kind in kinds:
        try:
            version = ask([kind, "--version"])
            image = Sandbox.detect(prefer=kind).image
            return f"{version}, tried" + (f" with {image}" if image else "")
        except (Missing, SandboxUnavailable) as error:
            problems.append(str(error))
    raise Missing("; ".join(problems))


def git() -> str:
    """Git, and new enough. Older ones read the user's own configuration, whatever they are told."""
    from steergraph.repo.git import NEEDED

    found = ask(["git", "--version"])
    numbers = re.search(r"(\d+)\.(\d+)", found)
    if numbers and (int(numbers[1]), int(numbers[2])) < NEEDED:
        raise Missing(f"{found}, where {NEEDED[0]}.{NEEDED[1]} or newer is needed")
    return found


def docker() -> str:
    return f"daemon {ask(['docker', 'version', '--format', '{{.Server.Version}}'])}"


def postgres_address(url: str) -> tuple[str, int]:
    """Host (or socket folder) and port of a Postgres URL; user and password are dropped."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return query.get("host", [parts.hostname or "localhost"])[0], int(query.get("port", [parts.port or 5432])[0])


def postgres() -> str:
    """Ask the server for encryption, as every client does first. Needs no driver and no password."""
    url = os.environ.get(STATE_VARIABLE, "")
    if url and not url.startswith(("postgres://", "postgresql://")):
        raise Missing("STEERGRAPH_STATE is not a postgresql:// URL")
    try:
        host, port = postgres_address(url)
    except ValueError as error:
        raise Missing("STEERGRAPH_STATE has no readable host and port") from error
    try:
        if host.startswith("/"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(SECONDS)
            connection.connect(f"{host}/.s.PGSQL.{port}")
        else:
            connection = socket.create_connection((host, port), timeout=SECONDS)
        with connection:
            connection.sendall(POSTGRES_SSL_REQUEST)
            answer = connection.recv(1)
    except OSError as error:
        raise Missing(f"no answer at {host}:{port}" + ("" if url else ", and STEERGRAPH_STATE is not set")) from error
    if answer not in (b"S", b"N"):
        raise Missing(f"what answers at {host}:{port} is not Postgres")
    return f"answers at {host}:{port}" + ("" if url else "; STEERGRAPH_STATE is not set")


def data_folder() -> str:
    folder = Path(os.environ.get("STEERGRAPH_DATA") or Path.cwd().parent / "shared" / "data")
    if not folder.is_dir():
        raise Missing(f"no folder {folder} (STEERGRAPH_DATA names another)")
    return str(folder)


def cache() -> str:
    folder = cache_folder()
    present = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=present):
            pass
    except OSError as error:
        raise Missing(f"{folder}: {error.strerror}") from error
    return f"{folder}, {shutil.disk_usage(present).free / 2**30:.1f} GiB free"


def pocket() -> str:
    folder = resources.files("steergraph.pocket").joinpath("weights")
    weights = [file for file in folder.iterdir() if file.name.endswith(".safetensors")] if folder.is_dir() else []
    if not weights:
        raise Missing("no weights in the package")
    return f"{sum(len(file.read_bytes()) for file in weights) / 1e6:.1f} MB of weights"


# The part's name, how it is asked for, and what it costs to be without it.
PARTS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("python", python, ""),
    ("machine", machine, ""),
    ("torch", torch_build, "no model runs: make setup installs it"),
    ("accelerator", accelerator, "models of more than about a billion parameters are slow"),
    ("transformers", lambda: installed("transformers"), "no model loads: make setup installs it"),
    ("langgraph", lambda: installed("langgraph"), "no graph runs: make setup installs it"),
    ("git", git, "no repository opens and no patch is checked: install git 2.32 or newer"),
    ("pocket", pocket, "every run needs --model: the embedded model is not in this installation"),
    ("bubblewrap", lambda: sandbox("bwrap"), "--test runs in a container, where one can be had: install bubblewrap"),
    (
        "container",
        lambda: sandbox("docker", "podman"),
        "without bubblewrap too, --test asks for --unsafe-tests and has limits but no walls",
    ),
    ("docker", docker, "the official SWE-bench harness cannot grade here; the sandbox still runs tests"),
    ("postgres", postgres, "graph state stays on one machine, in SQLite"),
    ("ray", lambda: installed("ray"), "batch runs and evaluations stay in one process"),
    ("data", data_folder, "tests on real data are skipped, and recorded results cannot be recomputed"),
    ("cache", cache, "mirrors and vectors have no place to be kept: set XDG_CACHE_HOME"),
)


def examine() -> list[Finding]:
    """Ask for every part, in a fixed order. Takes a few seconds; raises nothing."""
    findings = []
    for part, look, cost in PARTS:
        try:
            findings.append(Finding(part=part, ok=True, found=look()))
        except Missing as error:
            findings.append(Finding(part=part, ok=False, found=str(error), cost=cost))
        except Exception as error:  # a broken part (a torch that does not import) must not hide the others
            words = str(error).strip().splitlines() or [""]
            findings.append(Finding(part=part, ok=False, found=f"{type(error).__name__}: {words[0]}", cost=cost))
    return findings


def doctor(*, json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False) -> int:
    """0 whatever is missing: a report is no verdict."""
    findings = examine()
    if json:
        print(dumps([finding._asdict() for finding in findings], indent=2))
    else:
        _show(findings)
    return 0


def _show(findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from steergraph.base.text import harmless
    from steergraph.cli.console import console

    table = Table(box=None, pad_edge=False)
    for heading in ("", "part", "found", "without it"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark = Text("yes", style="green") if finding.ok else Text("no", style="yellow")
        table.add_row(mark, Text(finding.part), Text(harmless(finding.found)), Text(finding.cost))
    console().print(table)
