"""What the golden tests share: a place to run commands in, and a comparison of what they said with a file.

Only the public face is used here: `steergraph.cli:main` takes words and gives an exit code. `STEERGRAPH_GOLDEN=write`
writes the files anew, for a change that is meant; whoever does that reads the difference.
"""

import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from steergraph.cli import main

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).resolve().parent / "golden"
REPAIRED = """\
diff --git a/pantry/labels.py b/pantry/labels.py
--- a/pantry/labels.py
+++ b/pantry/labels.py
@@ -4,3 +4,3 @@
 def clean_label(text):
     \"\"\"A label in lower case, without spaces around it.\"\"\"
-    return text.lower()
+    return text.strip().lower()
"""
TILT = {
    "modelId": "pocket",
    "layerNumber": 3,
    "hookType": "hook_resid_post",
    "vector": [3.0, 4.0, 0.0, 0.0, -1.5, 0.25, 0.0, 0.0],
    "vectorDefaultSteerStrength": 2.0,
    "vectorLabel": "tilt",
}
_HASH = "hash............"  # as wide as one, for tables
_FLOAT = re.compile(r"(?<![\w.@])-?\d+(?:\.\d+(?:e[+-]?\d+)?|e-\d+)(?![\w.])")
_VARIES: tuple[tuple[str, str], ...] = (
    (r"( ?) *\b\d+\.\d s\b", r"\1<seconds> s"),
    (r"\d+ s left\b", "<seconds> s left"),
    (r", \d+ tokens/s", ", <speed> tokens/s"),
    (r"(Ran \d+ tests? in )\d+\.\d+s", r"\1<seconds>s"),
    (r"(?<=sandbox \()[^)]+(?=\))", "<kind>"),
    (r"\b\d{8}-\d{6}\b", "<time>"),
    (r"\bsteergraph \d+(?:\.\w+)+", "steergraph <version>"),
)
_MACHINE = {"seconds", "sandbox", "versions"}  # keys of JSON whose values are the machine's


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        parts = [f"$ {shlex.join(['steergraph', *self.words])}"]
        if self.out:
            parts.append(self.out.removesuffix("\n"))
        if self.err:
            parts += ["--- stderr", self.err.removesuffix("\n")]
        return "\n".join([*parts, f"--- exit code {self.code}", ""])


class Golden:
    """Runs commands in a folder of their own, and holds what came of them against files."""

    def __init__(self, here: Path, cache: Path, read: Callable[[], Any]) -> None:
        self.here, self.cache, self._read = here, cache, read

    def say(self, line: str) -> Said:
        """Run `steergraph` with the words of a line, quoted as in a shell. Never raises for what the words are."""
        words = shlex.split(line)
        try:
            code: Any = main(words)
        except SystemExit as end:  # of a usage error, or --help
            code = end.code or 0
        caught = self._read()
        return Said(tuple(words), code, caught.out, caught.err)

    def plain(self, text: str, exact: bool = False) -> str:
        """Without what differs from run to run and from machine to machine. `exact` keeps floats and hashes."""
        for path, name in ((self.cache, "<cache>"), (self.here, "<here>"), (ROOT, "<checkout>")):
            text = text.replace(str(path), name)
        for pattern, name in _VARIES:
            text = re.sub(pattern, name, text, flags=re.MULTILINE)
        if exact:
            return text
        return re.sub(r"(?<![\w.])[0-9a-f]{16}\b", _HASH, _FLOAT.sub(_rounded, text))

    def check(self, name: str, *parts: Any, exact: bool = False) -> None:
        """Hold the parts against tests/golden/`name`. Floats of a model may differ a little, unless `exact`."""
        found = self.plain("\n".join(str(part) for part in parts).rstrip("\n") + "\n", exact)
        path = FOLDER / name
        if os.environ.get("STEERGRAPH_GOLDEN") == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8")
            return
        kept = path.read_text(encoding="utf-8")
        if found != kept and (exact or not _close(found, kept)):  # pytest's own comparison takes minutes on long texts
            lines = difflib.unified_diff(kept.splitlines(), found.splitlines(), f"golden/{name}", "found", lineterm="")
            pytest.fail("\n".join(lines), pytrace=False)

    def record(self, name: str) -> str:
        """A JSON file of a run, indented, without what is the machine's."""
        return as_json(json.loads((self.here / name).read_text(encoding="utf-8")))

    def listing(self, folder: str) -> str:
        """The names of all files below a folder."""
        top = self.here / folder
        return "\n".join(sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()))


def golden_place(here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[], Any]) -> Golden:
    """A folder with the example repository, its issues and a small dataset, in which commands run."""
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("STEERGRAPH_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "STEERGRAPH_STATE", "STEERGRAPH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "examples" / "pantry.bundle", here)
    shutil.copytree(ROOT / "examples" / "issues", here / "issues")
    (here / "empty").mkdir()
    rows = [dataset_row(name) for name in ("labels", "stock")]
    (here / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (here / "tilt.json").write_text(json.dumps(TILT), encoding="utf-8")
    return Golden(here, cache, read)


def dataset_row(name: str) -> dict[str, str]:
    """A row of a SWE-bench dataset over the example repository."""
    heads = subprocess.run(
        ["git", "ls-remote", "pantry.bundle", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    return {
        "instance_id": f"steergraph__pantry-{name}",
        "repo": "steergraph/pantry",
        "base_commit": heads.split()[0],
        "version": "1.0",
        "problem_statement": Path("issues", f"{name}.md").read_text(encoding="utf-8"),
        "patch": REPAIRED,
        "test_patch": "",
        "FAIL_TO_PASS": "[]",
        "PASS_TO_PASS": "[]",
    }


def as_json(value: Any) -> str:
    return json.dumps(_masked(value), indent=1, ensure_ascii=False)


def shapes(lines: Sequence[str]) -> str:
    """A line for each event of a trace: its name and the types of its fields; what repeats is counted."""
    found: list[list[Any]] = []
    for line in lines:
        event = json.loads(line)
        shown = f"{event.pop('event')} {json.dumps(_shape(event))}".replace('"', "")
        if found and found[-1][0] == shown:
            found[-1][1] += 1
        else:
            found.append([shown, 1])
    return "\n".join(shown if count == 1 else f"{shown} x {count}" for shown, count in found)


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return "null" if value is None else type(value).__name__


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        masked = {key: _hidden(item) if key in _MACHINE else _masked(item) for key, item in value.items()}
        if isinstance(tail := masked.get("tail"), str):  # of a test's log, whose middle is Python's own
            lines = tail.splitlines() or [""]
            masked["tail"] = f"{lines[0]} ... {lines[-1]}"
        return masked
    return [_masked(item) for item in value] if isinstance(value, list) else value


def _hidden(value: Any) -> Any:
    return dict.fromkeys(value, "...") if isinstance(value, dict) else "..." if value is not None else None


def _rounded(found: re.Match[str]) -> str:
    """Four digits, where there are more behind the point than people print."""
    text = found[0]
    return text if len(text.partition(".")[2]) <= 4 and "e" not in text else repr(float(f"{float(text):.4g}"))


def _close(one: str, other: str) -> bool:
    """The same text, but for floats that differ by little more than their last digit."""
    if _FLOAT.sub("", one) != _FLOAT.sub("", other):
        return False
    pairs = zip(_FLOAT.findall(one), _FLOAT.findall(other), strict=True)
    return all(abs(float(a) - float(b)) <= max(_last(a), _last(b), 3e-3 * abs(float(b))) for a, b in pairs)


def _last(text: str) -> float:
    return 1.5 * 10.0 ** -len(text.partition(".")[2]) if "e" not in text else 1e-5
