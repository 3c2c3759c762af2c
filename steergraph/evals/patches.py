"""Diffs of others, gold and predictions: which are refused before anything is tried with them, and what the rest touch.

Knows the text of a diff and nothing else. The harness leaves the refusing to git and patch; patch(1) would write into
`.git`. A refused patch counts as not applied, and nothing is read of it.
"""

import re
from io import StringIO

from unidiff import PatchedFile, PatchSet
from unidiff.errors import UnidiffParseError

LARGEST_BYTES = 10 << 20
_FILE = re.compile(r"(?:---|\+\+\+|\*\*\*|Index:) (?:\"(?P<quoted>[^\n]*)\"|(?P<plain>[^\t\n]+))")
_HEADER = re.compile(r"(?:rename|copy) (?:from|to) (?P<path>.+)|diff --git (?P<pair>.+)")
_MODE = re.compile(r"(?:new file mode|new mode|old mode|deleted file mode) (\d+)|index \S+ (\d{6})")
_PLAIN_MODES = {"100644", "100755"}


def refusal(patch: str, largest: int = LARGEST_BYTES) -> str | None:
    """Why `patch` is not tried, in one line; None where it is.

    Refused: more than `largest` bytes; NUL or half characters; a path that is absolute, has `..`, or lies in `.git`;
    a mode that is no plain file's (submodules, set-uid); a symbolic link that is absolute or leads upwards.
    """
    try:
        size = len(patch.encode())
    except UnicodeEncodeError:
        return "the patch has half characters (lone surrogates)"
    if size > largest:
        return f"the patch has {size / 1e6:.0f} MB, more than the {largest / 1e6:.0f} MB that are tried"
    if "\0" in patch:
        return "the patch has a NUL character"
    link = False
    in_hunk = 0
    for line in patch.split("\n"):
        if hunk := re.match(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@", line):
            in_hunk = sum(int(count) if count is not None else 1 for count in hunk.groups())
            continue
        if in_hunk > 0 and line[:1] in ("+", "-", " ", ""):
            in_hunk -= 2 if line[:1] in (" ", "") else 1
            if link and line[:1] == "+" and _leads_out(line[1:].strip()):
                return f"the patch makes a symbolic link to {line[1:].strip()[:80]!r}"
            continue
        if line.startswith("diff --git "):
            link = False
        if mode := _MODE.match(line):
            number = mode[1] or mode[2]
            link = link or number == "120000"
            if number not in _PLAIN_MODES and number != "120000":
                return f"the patch has the file mode {number}"
        for path in _paths(line):
            if why := _why_not(path):
                return f"the patch names {path[:80]!r}: {why}"
    return None


def patched_files(patch: str) -> list[PatchedFile]:
    """The files of a patch. Empty where it is refused or is no unified diff."""
    if refusal(patch) is not None:
        return []
    try:
        return list(PatchSet(StringIO(patch, newline="\n")))
    except (UnidiffParseError, ValueError, IndexError):
        return []


def named_paths(*patches: str) -> list[str]:
    """Every path that patches name, before and after. Those that are refused name none."""
    names = {
        name.removeprefix(prefix)
        for patch in patches
        for file in patched_files(patch)
        for name, prefix in ((file.source_file, "a/"), (file.target_file, "b/"))
        if name != "/dev/null"
    }
    return sorted(names)


def touched_lines(patch: str) -> dict[str, set[int]]:
    """For each file that a patch touches, by its path before (after, where it adds the file), its base lines that are
    removed or after which something is added; 1-based, 0 for the start of the file."""
    touched: dict[str, set[int]] = {}
    for file in patched_files(patch):
        name = file.target_file.removeprefix("b/") if file.is_added_file else file.source_file.removeprefix("a/")
        lines = touched.setdefault(name, set())
        for hunk in file:
            at = hunk.source_start - (1 if hunk.source_length else 0)
            for line in hunk:
                if line.is_added:
                    lines.add(at)
                elif line.is_removed or line.is_context:
                    at += 1
                    if line.is_removed:
                        lines.add(at)
    return touched


def _paths(line: str) -> list[str]:
    if (file := _FILE.match(line)) and not line.startswith(("--- /dev/null", "+++ /dev/null")):
        return [_unprefixed(file["quoted"] or file["plain"])]
    if header := _HEADER.match(line):
        if header["path"]:
            return [header["path"].strip('"')]
        return [_unprefixed(half.strip('"')) for half in re.split(r" (?=\"?b/)", header["pair"], maxsplit=1)]
    return []


def _unprefixed(path: str) -> str:
    return path[2:] if path.startswith(("a/", "b/")) else path


def _why_not(path: str) -> str | None:
    if path.startswith("/"):
        return "it is absolute"
    parts = re.split(r"[/\\]|\\057", path)
    if ".." in parts or r"\056\056" in path:
        return "it leads out of the repository"
    if any(part.casefold().split(":")[0].rstrip(". ") in (".git", "git~1") for part in parts):
        return "git's own folder is not patched"
    return None


def _leads_out(target: str) -> bool:
    return target.startswith("/") or ".." in target.split("/")
