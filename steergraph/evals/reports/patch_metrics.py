"""What can be said of a patch without running any test.

Knows the text of a patch, the files that it names as they were, and a gold patch to hold it against. Runs nothing of
either: the one process it starts is git, on copies of the named files in a folder of their own. What `refusal` refuses
is never tried.
"""

import os
import tempfile
from collections.abc import Mapping, Set
from pathlib import Path, PurePosixPath
from typing import Any

from steergraph.agents.edits.parsing import PARSERS
from steergraph.base.errors import one_line
from steergraph.base.records import Frozen
from steergraph.evals.patches import patched_files, refusal, touched_lines
from steergraph.evals.retrieval.gold import gold_functions
from steergraph.repo.git import GitError, run_git

_APPLY_S = 30.0
_PYTHON = (".py", ".pyi")
_BINARY = "GIT binary patch"
_NOT_UNPACKED = "the patch has a binary part, which is not unpacked to look at it"  # it may be gigabytes


class Overlap(Frozen):
    """How many things a patch and the gold patch both touch, of how many each."""

    both: int
    patch: int
    gold: int

    @property
    def recall(self) -> float | None:
        return self.both / self.gold if self.gold else None

    @property
    def precision(self) -> float | None:
        return self.both / self.patch if self.patch else None


class PatchLook(Frozen):
    """What looking at a patch tells. None is "not known": no base files, no gold patch, or nothing to look at."""

    empty: bool
    refused: str | None = None
    """Why nothing was tried with it."""
    readable: bool = False
    """git reads it as a patch, whatever it would be applied to."""
    applies: bool | None = None
    """`git apply` takes it on the base files, without fuzz. Refused and unreadable patches don't, on any files; of
    binary ones it is not known."""
    parses: bool | None = None
    """Every Python file that it changes parses afterwards, or did not before either."""
    why: str = ""
    """What speaks against it, in one line."""
    added: int = 0
    removed: int = 0
    files: Overlap | None = None
    functions: Overlap | None = None
    lines: Overlap | None = None
    """Lines of the base files that are removed, or after which something is added."""


def look(patch: str, base: Mapping[str, bytes | None] | None = None, gold: str | None = None) -> PatchLook:
    """Look at a patch.

    Args:
        patch: anyone's; may hold anything.
        base: the files that it and the gold patch name (`named_paths`) at the base commit, None for one that is not
            there. Without it, whether the patch applies and parses, and which functions it touches, is not known.
        gold: the gold patch, where it may be looked at: never before the run is over.
    """
    if not patch.strip():
        return PatchLook(empty=True)
    if why := refusal(patch):
        return PatchLook(empty=False, refused=why, applies=False, why=why)
    if _BINARY in patch:
        return PatchLook(empty=False, refused=_NOT_UNPACKED, why=_NOT_UNPACKED)
    applies, parses, why = None, None, ""
    if base is not None:
        after, why = apply_patch(patch, base)
        applies = after is not None
        if after is not None:
            parses, why = _parses(base, after)
    if not applies and (said := unreadable(patch)):
        return PatchLook(empty=False, applies=False, why=said)
    files = patched_files(patch)
    found = PatchLook(
        empty=False,
        readable=True,
        applies=applies,
        parses=parses,
        why=why,
        added=sum(file.added for file in files),
        removed=sum(file.removed for file in files),
    )
    if gold is None:
        return found
    mine, theirs = touched_lines(patch), touched_lines(gold)
    overlaps = {"files": _overlap(set(mine), set(theirs)), "lines": _overlap(_pairs(mine), _pairs(theirs))}
    if base is not None:
        texts = {path: text.decode("utf-8", "replace") for path, text in base.items() if text is not None}
        functions = [{(each.path, each.name) for each in gold_functions(text, texts)} for text in (patch, gold)]
        overlaps["functions"] = _overlap(*functions)
    return found.model_copy(update=overlaps)


def unreadable(patch: str) -> str | None:
    """Why git cannot read a patch at all, in one line; None where it can. No file is looked at."""
    with tempfile.TemporaryDirectory(prefix="steergraph-look-") as folder:
        try:
            _git(Path(folder), ["apply", "--numstat", "-"], patch)
        except GitError as error:
            return one_line(str(error))
    return None


def apply_patch(patch: str, base: Mapping[str, bytes | None]) -> tuple[dict[str, bytes] | None, str]:
    """The named files after `git apply`, and ""; or None, and why not, in one line.

    The files stand alone in a new folder. A patch that `refusal` refuses is not tried.
    """
    if why := refusal(patch) or (_NOT_UNPACKED if _BINARY in patch else None):
        return None, why
    with tempfile.TemporaryDirectory(prefix="steergraph-look-") as folder:
        root = Path(folder)
        for path, content in base.items():
            if content is None or not _plain(path):
                continue
            try:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content)
            except OSError as error:
                return None, f"{path[:200]}: {error.strerror}"
        try:
            _git(root, ["apply", "--whitespace=nowarn", "-"], patch)
        except GitError as error:
            return None, one_line(str(error))
        after = {}
        for where, _, names in os.walk(root):  # follows no link
            for name in names:
                file = Path(where, name)
                if not file.is_symlink():
                    after[file.relative_to(root).as_posix()] = file.read_bytes()
        return after, ""


def _git(root: Path, args: list[str], patch: str) -> bytes:
    # Never a repository further up: inside one, git passes over what lies outside its current folder.
    ceiling = {"GIT_CEILING_DIRECTORIES": str(root.resolve().parent)}
    return run_git(args, root, patch.encode(), _APPLY_S, environment=ceiling)


def _plain(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and not {"..", ".git"} & set(parts) and "\0" not in path


def _parses(base: Mapping[str, bytes | None], after: Mapping[str, bytes]) -> tuple[bool | None, str]:
    """Whether changed Python files parse, None where none is changed; and the first that does not."""
    changed = [path for path, text in after.items() if text != base.get(path) and path.endswith(_PYTHON)]
    for path in sorted(changed):
        before = base.get(path)
        if (said := PARSERS[".py"](after[path])) and (before is None or PARSERS[".py"](before) is None):
            return False, f"{path} does not parse: {said}"
    return (True if changed else None), ""


def _overlap(patch: Set[Any], gold: Set[Any]) -> Overlap:
    return Overlap(both=len(patch & gold), patch=len(patch), gold=len(gold))


def _pairs(touched: Mapping[str, set[int]]) -> set[tuple[str, int]]:
    return {(path, line) for path, lines in touched.items() for line in lines}
