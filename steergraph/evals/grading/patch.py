"""Which patches are refused before anything is tried with them, and why. Knows the text of a diff and nothing else.

The harness leaves this to git and patch; patch(1) would write into `.git`. A refused patch counts as not applied.
"""

import re

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
