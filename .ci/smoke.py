"""Smoke run of an installed wheel, from a folder that is not the checkout: python smoke.py CHECKOUT.

The checkout is read only to know what should have been packed, and for the example repository.
"""

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

# What the checkout has beside the package's code and is not packed.
UNPACKED = {".md"}


def command(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run the installed `steergraph`. Fails where its exit code is not one of `codes`."""
    program = Path(sys.executable).with_name("steergraph")
    done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode in codes, f"steergraph {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def check_files(checkout: Path, installed: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "steergraph"], cwd=checkout, check=True, capture_output=True, text=True
    )
    wanted = {Path(name).relative_to("steergraph") for name in tracked.stdout.split("\0") if name}
    lacking = sorted(str(path) for path in wanted if path.suffix not in UNPACKED and not (installed / path).is_file())
    assert not lacking, f"not in the wheel: {lacking}"
    kinds = {path.suffix for path in wanted}
    assert {".py", ".yaml", ".safetensors"} <= kinds, f"the checkout lacks a kind of file: {sorted(kinds)}"
    print(f"{len(wanted)} files, all of them packed")


# Modules that need an extra, and what they miss without it.
NEED_EXTRAS = {
    "steergraph.agents.checkpoints.postgres": "langgraph.checkpoint.postgres",
    "steergraph.web.app": "fastapi",
    "steergraph.web.guard": "fastapi",
    "steergraph.web.routes": "fastapi",
    "steergraph.web.server": "uvicorn",
}


def check_imports(package: str) -> None:
    names = [module.name for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")]
    lacking = {}
    for name in names:
        if name.endswith("__main__"):
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            lacking[name] = error.name
    assert lacking == NEED_EXTRAS, f"modules that do not import: {lacking}"
    print(f"{len(names)} modules, all of them import but the {len(lacking)} that need an extra")


def check_run(checkout: Path) -> None:
    out = Path.cwd() / "run"
    command(
        *("run", "--repo", str(checkout / "examples" / "pantry.bundle")),
        *("--issue", str(checkout / "examples" / "issues" / "labels.md")),
        *("--test", "python -m unittest tests.test_labels", "--unsafe-tests", "--out", str(out)),
    )
    outcome = json.loads((out / "outcome.json").read_text(encoding="utf-8"))
    assert outcome["patch"] and (out / "patch.diff").read_text(encoding="utf-8") == outcome["patch"]
    print(f"a run of {len(outcome['steps'])} steps: {outcome['status']}")


def main() -> None:
    checkout = Path(sys.argv[1]).resolve()
    import steergraph

    installed = Path(steergraph.__file__).resolve().parent
    assert installed.is_relative_to(Path(sys.prefix).resolve()), f"not the installed package: {installed}"
    print(command("--version").strip())
    print(f"doctor: {len(json.loads(command('doctor', '--json')))} parts")
    check_files(checkout, installed)
    check_imports("steergraph")
    check_run(checkout)


if __name__ == "__main__":
    main()
