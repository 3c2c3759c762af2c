"""An instance of our own, small enough to be graded in a second: a calculator whose `add` subtracts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from steergraph.evals.grading.environments import PREFIX
from steergraph.evals.grading.pins import Pins

INSTANCE = "own__calc-1"
REPO = "own/calc"
CALC = "def add(a, b):\n    return a - b\n\n\ndef mul(a, b):\n    return a * b\n"
TESTS = "from calc import mul\n\n\ndef test_mul():\n    assert mul(2, 3) == 6\n"
TEST_PATCH = """\
diff --git a/test_calc.py b/test_calc.py
--- a/test_calc.py
+++ b/test_calc.py
@@ -1,5 +1,9 @@
-from calc import mul
+from calc import add, mul
 
 
 def test_mul():
     assert mul(2, 3) == 6
+
+
+def test_add():
+    assert add(2, 3) == 5
"""
SCRIPT = """\
#!/bin/bash
set -uxo pipefail
source /opt/miniconda3/bin/activate
conda activate testbed
cd /testbed
git config --global --add safe.directory /testbed
git status
git -c core.fileMode=false diff {base}
source /opt/miniconda3/bin/activate
conda activate testbed
{install}
git checkout {base} test_calc.py
git apply -v - <<'EOF_114329324912'
{test_patch}
EOF_114329324912
: '>>>>> Start Test Output'
{command}
: '>>>>> End Test Output'
git checkout {base} test_calc.py
"""
RUNNER = """\
import sys
sys.path.insert(0, ".")
import test_calc
failed = 0
for name, test in list(vars(test_calc).items()):
    if name.startswith("test_"):
        try:
            test()
            print(f"PASSED test_calc.py::{name}")
        except AssertionError:
            failed = 1
            print(f"FAILED test_calc.py::{name} - AssertionError")
sys.exit(failed)
"""


def patch_of(old: str, new: str) -> str:
    """A patch of calc.py's second line."""
    return (
        "diff --git a/calc.py b/calc.py\n--- a/calc.py\n+++ b/calc.py\n"
        f"@@ -1,5 +1,5 @@\n def add(a, b):\n-    return {old}\n+    return {new}\n \n \n def mul(a, b):\n"
    )


GOLD, WRONG = patch_of("a - b", "a + b"), patch_of("a - b", "a * b")
GARBAGE = patch_of("nowhere", "a + b").replace("def mul(a, b)", "nothing like it")
NO_OP = (
    "diff --git a/NOTES.txt b/NOTES.txt\nnew file mode 100644\n--- /dev/null\n+++ b/NOTES.txt\n@@ -0,0 +1 @@\n+no-op\n"
)


def make_repository(folder: Path) -> str:
    """A repository with the calculator in a new folder. Returns the commit."""
    folder.mkdir(parents=True)
    (folder / "calc.py").write_text(CALC)
    (folder / "test_calc.py").write_text(TESTS)
    own = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": "own@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        **{f"GIT_{who}_DATE": "2024-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")},
    }

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=folder, env=own, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "calc")
    return git("rev-parse", "HEAD")


def make_row(base: str, **changes: Any) -> dict[str, Any]:
    """The dataset's row. `command` and `install` go into its eval script; other words replace columns."""
    command = changes.pop("command", "pytest -rA test_calc.py")
    install = changes.pop("install", "true")
    row = {
        "instance_id": INSTANCE,
        "repo": REPO,
        "version": "1.0",
        "base_commit": base,
        "patch": GOLD,
        "test_patch": TEST_PATCH,
        "problem_statement": "add subtracts",
        "FAIL_TO_PASS": json.dumps(["test_calc.py::test_add"]),
        "PASS_TO_PASS": json.dumps(["test_calc.py::test_mul"]),
        "image": "own/calc:latest",
        "eval_script": SCRIPT.format(base=base, install=install, test_patch=TEST_PATCH, command=command),
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
    }
    return {**row, **changes}


def write_specs(path: Path) -> Path:
    version = ".".join(str(part) for part in sys.version_info[:2])
    path.write_text(json.dumps({REPO: {"1.0": {"python": version, "pip_packages": ["pytest==1.0"]}}}))
    return path


def make_environment(cache: Path, pins: Pins) -> Path:
    """What `environment_for` would find made: this interpreter, and a quick runner that prints as pytest does."""
    recipe = pins.recipe(INSTANCE, REPO, "1.0")
    folder = cache / recipe.key
    for name in ("env/bin", "wheels"):
        (folder / name).mkdir(parents=True)
    python, runner = folder / "env/bin/python", folder / "env/bin/pytest"
    python.write_text(f'#!/bin/bash\nexec {sys.executable} -S "$@"\n')
    runner.write_text(f"#!{sys.executable} -S\n{RUNNER}")
    for script in (python, runner):
        script.chmod(0o755)
    (folder / "activate").write_text(f'conda() {{ export PATH="{PREFIX}/bin:$PATH"; }}\n')
    manifest = {"recipe": recipe.model_dump(), "interpreter": sys.base_prefix, "notes": []}
    (folder / "environment.json").write_text(json.dumps(manifest))
    return folder


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prediction(patch: str | None, model: str = "m", instance_id: str = INSTANCE) -> dict[str, Any]:
    return {"instance_id": instance_id, "model_patch": patch, "model_name_or_path": model}
