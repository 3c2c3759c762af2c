"""Which files an issue points at: by path, by module, in a traceback, by what they are called.

Knows paths and a parsed query. Knows nothing of terms' counts or scores.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from steergraph.retrieval.query import Query
from steergraph.retrieval.terms import identifiers, split_identifier

_FRAME_DECAY = 0.8
_FEW = 2
_AUXILIARY = re.compile(
    r"(?:^|/)(?:docs?|doc-src|examples?|benchmarks?|asv_bench|tutorials?|galleries|gallery|vendor(?:ed)?|_vendor|extern"
    r"|externals?|third_party|node_modules)/|^(?:scripts?|tools?|ci|bin|release)/|./packages/"
    r"|(?:^|/)(?:setup|conftest)\.py$",
    re.IGNORECASE,
)
_TEST_WORDS = {"test", "tests", "testing"}


def is_test(path: str) -> bool:
    """SWE-bench's rule, on the path inside the repository: one of its words is test, tests or testing."""
    return not _TEST_WORDS.isdisjoint(re.split(r"[ _/.]", path.lower()))


def is_auxiliary(path: str) -> bool:
    """Whether a bug is rarely mended there: tests, documentation, examples, tools, copies of other projects."""
    return bool(_AUXILIARY.search(path)) or is_test(path)


class Places:
    """The paths of a commit, looked up by their ends and as modules."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        self._names: dict[str, list[int]] = defaultdict(list)
        self._modules: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for at, path in enumerate(paths):
            parts = path.split("/")
            self._names[parts[-1]].append(at)
            module = [*parts[:-1], parts[-1].rsplit(".", 1)[0]]
            if module[-1] == "__init__":
                module.pop()
            for start in range(len(module)):
                self._modules[tuple(module[start:])].append(at)

    def by_end(self, mention: str, least: int = 1, most: int = 3) -> list[int]:
        """The files whose paths share the longest end with `mention`, in whole components, `least` of them or all
        that it has; none where more than `most` files do."""
        parts = [part for part in mention.replace("\\", "/").split("/") if part not in ("", ".", "..", "~")]
        if not parts:
            return []
        best, found = 0, list[int]()
        for at in self._names.get(parts[-1], ()):
            own = self.paths[at].split("/")
            common = 0
            while common < min(len(own), len(parts)) and own[-1 - common] == parts[-1 - common]:
                common += 1
            if common > best:
                best, found = common, []
            if common == best:
                found.append(at)
        return found if best >= min(least, len(parts)) and len(found) <= most else []

    def by_module(self, dotted: str) -> list[int]:
        """The files of the longest start of `dotted` that is a module's name or its end, of two parts or more."""
        parts = dotted.split(".")
        for length in range(min(len(parts), 12), 1, -1):
            if found := self._modules.get(tuple(parts[:length])):
                return found if len(found) <= _FEW else []
        return []


def pointed_at(places: Places, query: Query) -> dict[int, tuple[float, str]]:
    """The files that the issue names, from 0 to 1, and how: by path or module (1, shared among those it can mean), or
    in a traceback (1 for the innermost frame that is in the repository, 0.8 for the next, and so on)."""
    found: dict[int, tuple[float, str]] = {}

    def add(at: int, worth: float, how: str) -> None:
        if worth > found.get(at, (0.0, ""))[0]:
            found[at] = (worth, how)

    for path in query.paths:
        meant = places.by_end(path)
        for at in meant:
            add(at, 1 / len(meant), f"named as {path}")
    for dotted in query.dotted:
        meant = places.by_module(dotted)
        for at in meant:
            add(at, 1 / len(meant), f"named as {dotted}")
    worth = 1.0
    for frame in reversed(query.frames):
        meant = places.by_end(frame.path, least=2, most=_FEW)
        for at in meant:
            add(at, worth, f"in a traceback{f', line {frame.line}' if frame.line else ''}")
        if meant:
            worth *= _FRAME_DECAY
    return found


def frames_in(places: Places, query: Query) -> Mapping[int, list[tuple[int, str]]]:
    """Line and function of each traceback frame that is in the repository, by file."""
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for frame in query.frames:
        for at in places.by_end(frame.path, least=2, most=_FEW):
            found[at].append((frame.line, frame.name))
    return found


def called(path: str) -> frozenset[str]:
    """The terms of a file's own name; of its folder where it is an `__init__.py`."""
    parts = path.split("/")
    name = parts[-1].rsplit(".", 1)[0]
    if name == "__init__" and len(parts) > 1:
        name = parts[-2]
    return frozenset(term for identifier in identifiers(name) for term in split_identifier(identifier))
