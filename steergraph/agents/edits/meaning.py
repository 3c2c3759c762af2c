"""What an edit means: whether two of them say the same, and whether one says anything.

Knows file texts and syntax trees. Knows nothing of how an edit was made; its texts may come from anywhere.
"""

import ast
import hashlib
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from steergraph.agents.edits.parsing import program

_LARGEST_TREE = 2_000_000
"""Characters of a file whose syntax tree is looked at."""


def edit_key(after: Mapping[str, str | None], before: Callable[[str], str | None]) -> tuple[str, bool]:
    """A hash of what an edit means, and whether it means nothing.

    `after` are the texts of the edited files, None where one is deleted; `before` reads them as they were. Python
    files are compared by their syntax trees, others by their lines without trailing white space.
    """
    meant = {path: normalised(path, text) for path, text in sorted(after.items())}
    empty = all(meant[path] == normalised(path, before(path)) for path in meant)
    return hashlib.sha256(repr(sorted(meant.items())).encode("utf-8", "replace")).hexdigest()[:16], empty


def normalised(path: str, text: str | None) -> str | None:
    """What of a file's text matters: of Python its syntax tree without positions, of the rest its lines."""
    if text is None:
        return None
    if PurePosixPath(path).suffix in (".py", ".pyi") and len(text) <= _LARGEST_TREE:
        tree = program(text)
        if isinstance(tree, ast.Module):
            try:
                return ast.dump(tree)
            except RecursionError:  # deeper than it can be written out
                pass
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")
