"""Fetching packages for an environment, with the pip of its own Python: the only step of grading with a network.

No code of a package runs here: wheels are asked for first; for what has none, the source archive is looked up and
downloaded by pip's own finder and session, but not opened. It is built later, in the sandbox.
"""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from steergraph.base.errors import InputError
from steergraph.evals.grading.interpreters import Interpreter

MISSING = re.compile(r"No matching distribution found for ([^\n(]+)")
_FETCH_S = 900.0
_SOURCES = """
import hashlib, pathlib, sys
from pip._internal.commands import create_command
from pip._vendor.packaging.requirements import Requirement
command = create_command("download")
options, _ = command.parse_args(["--no-binary", ":all:", "--no-deps", "--quiet", "x"])
with command.main_context():
    session = command.get_default_session(options)
    finder = command._build_package_finder(options, session)
    for text in sys.argv[2:]:
        try:
            wanted = Requirement(text)
            best = finder.find_best_candidate(wanted.name, wanted.specifier).best_candidate
            if best is None:
                continue
            answer = session.get(best.link.url_without_fragment, headers={"Accept-Encoding": "identity"})
            answer.raise_for_status()
            said = best.link.hash_name and hashlib.new(best.link.hash_name, answer.content).hexdigest()
            if said and said != best.link.hash:
                raise ValueError("another hash than the index says")
            pathlib.Path(sys.argv[1], pathlib.PurePosixPath(best.link.filename).name).write_bytes(answer.content)
            print("got", text)
        except Exception as error:
            print(f"{text}: {error}", file=sys.stderr)
"""


class FetchFailed(InputError):
    """Packages cannot be fetched. One line, in pip's words."""


def fetch_wheels(python: Interpreter, pins: Sequence[str], into: Path, *, deps: bool) -> list[str]:
    """Put wheels of `pins`, and with `deps` of all they need, into a folder. Returns those that have no wheel.

    Raises FetchFailed where pip fails for another reason.
    """
    wanted, refused = list(pins), []
    words = [str(python.path), "-I", "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(into)]
    words += ["--disable-pip-version-check", *([] if deps else ["--no-deps"])]
    while wanted:
        done = _run([*words, "--", *wanted])
        if done.returncode == 0:
            break
        missing = {each.replace(" ", "") for each in MISSING.findall(done.stderr)}
        gone = [pin for pin in wanted if pin.replace(" ", "") in missing]
        if not gone:
            last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
            raise FetchFailed(f"packages cannot be fetched: {last[-1][:300]}")
        refused += gone
        wanted = [pin for pin in wanted if pin not in gone]
    return refused


def fetch_sources(python: Interpreter, pins: Sequence[str], into: Path) -> list[str]:
    """Put source archives of `pins` into a folder, unopened. Returns those that were found. Raises FetchFailed."""
    if not pins:
        return []
    done = _run([str(python.path), "-I", "-c", _SOURCES, str(into), *pins])
    got = {line.removeprefix("got ") for line in done.stdout.splitlines() if line.startswith("got ")}
    return [pin for pin in pins if pin in got]


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="steergraph-wheels-") as neutral:
        try:
            return subprocess.run(
                words, cwd=neutral, capture_output=True, text=True, errors="replace", timeout=_FETCH_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FetchFailed(f"packages cannot be fetched: {str(error)[:200]}") from error
