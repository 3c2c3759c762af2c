"""Build examples/pantry.bundle from the files in examples/pantry, the same commits every time.

The folder holds the newest state, defects included. The history before it is told here: the first commits add healthy
files, then each defect arrives as a commit of its own. Needs git and the standard library.

    python examples/make_pantry.py            rebuild pantry.bundle
    python examples/make_pantry.py --print    only print the commit ids, oldest first
"""

import argparse
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "pantry"
BUNDLE = HERE / "pantry.bundle"
BRANCH = "main"


@dataclass(frozen=True)
class Addition:
    """A commit that adds files."""

    message: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A commit that changes one line of one file."""

    message: str
    file: str
    before: str
    after: str


def module(name: str) -> tuple[str, str]:
    return f"pantry/{name}.py", f"tests/test_{name}.py"


HISTORY: tuple[Addition | Change, ...] = (
    Addition(
        "Start the pantry with its stock", ("README.md", "pantry/__init__.py", "tests/__init__.py", *module("stock"))
    ),
    Addition("Shelves and labels", (*module("shelf"), *module("labels"))),
    Addition("Units and recipes", (*module("units"), *module("recipes"))),
    Change("Simplify the low-stock check", "pantry/stock.py", "if amount <= limit:", "if amount < limit:"),
    Addition("Prices and the shopping list", (*module("prices"), *module("shopping"))),
    Change("Labels need no trimming", "pantry/labels.py", "return text.strip().lower()", "return text.lower()"),
    Addition("Eat first what spoils first", module("rotation")),
    Change("Name the cost before rounding it", "pantry/prices.py", "cost = price * amount", "cost = price + amount"),
    Addition("Typed entries and search", (*module("entry"), *module("search"))),
    Change("Tidy the order of rotation", "pantry/rotation.py", "return ordered[:count]", "return ordered[: count - 1]"),
    Addition("A report for the door", module("report")),
    Change("Keep the place of a jar", "pantry/shelf.py", "self.jars[place] = new", "self.jars[place] = old"),
    Change("Shorten the report", "pantry/report.py", 'return "\\n".join(lines)', '"\\n".join(lines)'),
    Addition("A fridge and a budget", (*module("fridge"), *module("budget"))),
    Change(
        "Say it the other way round",
        "pantry/fridge.py",
        "return closed and not too_warm(degrees)",
        "return closed or not too_warm(degrees)",
    ),
    Addition("Guests for dinner", module("guests")),
    Change("Spell the sum out", "pantry/budget.py", "total += bills[shop]", "total = bills[shop]"),
    Change(
        "Look at the diet only",
        "pantry/guests.py",
        'return [guest["name"] for guest in guests if eats_no_meat(guest)]',
        'return [guest["diet"] for guest in guests if eats_no_meat(guest)]',
    ),
    Addition("Kitchen scales", module("scales")),
    Change(
        "There is always a reading",
        "pantry/scales.py",
        "return sum(readings) / len(readings) if readings else 0",
        "return sum(readings) / len(readings)",
    ),
)


def healthy(file: str) -> str:
    """A file's text before any of the changes. Raises ValueError where a change does not fit the folder's file."""
    text = (SOURCE / file).read_text(encoding="utf-8")
    for step in HISTORY:
        if isinstance(step, Change) and step.file == file:
            text = swap(text, step.after, step.before, file)
    return text


def swap(text: str, old: str, new: str, file: str) -> str:
    """Replace the one line that says `old`, keeping its indentation."""
    lines = text.split("\n")
    places = [place for place, line in enumerate(lines) if line.strip() == old]
    if len(places) != 1:
        raise ValueError(f"{file}: the line {old!r} is there {len(places)} times, not once")
    indent = lines[places[0]][: len(lines[places[0]]) - len(lines[places[0]].lstrip())]
    lines[places[0]] = indent + new
    return "\n".join(lines)


def git(repo: Path, *arguments: str, day: int = 1) -> str:
    """Run git in `repo` with nothing of the user's own: fixed names, dates and no configuration files."""
    date = f"2024-03-{day:02d}T09:00:00+0000"
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(repo),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Pantry Keeper",
        "GIT_AUTHOR_EMAIL": "keeper@example.org",
        "GIT_COMMITTER_NAME": "Pantry Keeper",
        "GIT_COMMITTER_EMAIL": "keeper@example.org",
        "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_DATE": date,
    }
    done = subprocess.run(("git", *arguments), cwd=repo, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def build(repo: Path) -> list[str]:
    """Make the repository in the empty folder `repo`. Returns its commit ids, oldest first.

    Raises ValueError where the last commit is not exactly the folder examples/pantry.
    """
    git(repo, "init", "--quiet", "--object-format=sha1", f"--initial-branch={BRANCH}")
    for day, step in enumerate(HISTORY, start=1):
        if isinstance(step, Addition):
            texts = {file: healthy(file) for file in step.files}
        else:
            old = (repo / step.file).read_text(encoding="utf-8")
            texts = {step.file: swap(old, step.before, step.after, step.file)}
        for file, text in texts.items():
            (repo / file).parent.mkdir(parents=True, exist_ok=True)
            (repo / file).write_bytes(text.encode())
            git(repo, "add", "--", file)
        git(repo, "commit", "--quiet", "--no-verify", "--message", step.message, day=day)
    tracked = set(git(repo, "ls-files").splitlines())
    present = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    if tracked != present:
        raise ValueError(f"not in both the history and the folder: {sorted(tracked ^ present)}")
    different = [file for file in tracked if (repo / file).read_bytes() != (SOURCE / file).read_bytes()]
    if different:
        raise ValueError(f"the last commit differs from the folder in {sorted(different)}")
    return git(repo, "rev-list", "--reverse", BRANCH).splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description="Build examples/pantry.bundle.")
    parser.add_argument("--print", action="store_true", help="only print the commit ids")
    only_print: bool = parser.parse_args().print
    with tempfile.TemporaryDirectory() as folder:
        repo = Path(folder)
        commits = build(repo)
        if not only_print:
            git(repo, "-c", "pack.threads=1", "bundle", "create", "--quiet", "new.bundle", "HEAD", BRANCH)
            part = BUNDLE.with_suffix(".part")
            part.write_bytes((repo / "new.bundle").read_bytes())
            part.replace(BUNDLE)
    print("\n".join(commits))


if __name__ == "__main__":
    main()
