"""What an issue's text asks for: its terms by the kind of text they stand in, and the places and names it points at.

Knows how people write issues: a title, prose, code blocks, tracebacks, quoted names, options, lists of versions,
templates' comments. Knows nothing of repositories; whether a named path exists is for others to see.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from steergraph.retrieval.terms import identifiers, split_identifier

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_FENCE = re.compile(r"^[ \t>]*(?:```|~~~)")
_URL = re.compile(r"\b(?:https?|ftp)://[^\s<>()\[\]\"'`]+")
_BLOB_URL = re.compile(r"/(?:blob|tree|blame|raw)/[^/]+/(.+?)(?:[#?].*)?$")
_FRAME = re.compile(
    r"""File [ ]"(?P<path>[^"\n]{1,300})",[ ]line[ ](?P<line>\d+)(?:,[ ]in[ ](?P<name>[\w.<>]+))?"""
    r"""|^[ \t>]*(?:File[ ])?(?P<path2>[^\s:"'(]{1,300}\.pyx?)(?:[ ]in[ ](?P<name3>[\w.<>]+)|:(?P<line2>\d+)"""
    r"""(?::|,|[ \t]*$|[ ])(?:[ ]*in[ ](?P<name2>[\w.<>]+))?)""",
    re.MULTILINE | re.VERBOSE,
)
_PATH = re.compile(r"(?<![\w/.~-])(?:[\w.~-]*/)*[\w-]+(?:\.[\w-]+)*\.(?:py|pyi|pyx|pxd|c|h|cpp|rs|js|ts|go|java|rb)\b")
_DOTTED = re.compile(r"(?<![\w.])[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_KEBAB = re.compile(r"(?<![\w-])-{0,2}([^\W\d_]\w*(?:-[^\W\d_]\w*)+)(?![\w-])")
_VERSION_LINE = re.compile(
    r"^[ \t>*-]*[\w .-]{1,40}(?::|==)[ \t]*(?:None|installed|v?\d[\w.+ ()|,-]*|N/A|True|False)[ \t]*$", re.IGNORECASE
)
_QUOTED = re.compile(r"`([^`\n]{1,200})`")
_ERROR = re.compile(
    r"^[ \t>E]*(?:[\w.]+\.)?([A-Z]\w*(?:Error|Exception|Warning|Exit|Interrupt))\b[: ]?(.*)$", re.MULTILINE
)
_CODE_LIKE = re.compile(r"[a-z0-9]_[A-Za-z0-9]|^_|[a-z][A-Z]|[A-Z]{2,}[a-z]")

_STOP_WORDS = """
a an the and or but if then else of in on at to from by for with without is are was were be been being it its this
that these those i you he she we they me my our your their as not no so do does did can could should would will may
might must have has had what which who when where why how all any some there here also than too very just only more
most other such into about after before out up down over under again further once both each few own same s t don now
am im ive using use used get got like see seems want need one two way make makes made example following code issue
bug expected actual behavior behaviour description version versions describe steps reproduce problem result results
output happened happens
"""
_STOP = frozenset(_STOP_WORDS.split())
_SATURATION = 4.0

TITLE, PROSE, QUOTED, CODE, OUTPUT, ERROR = "title", "prose", "quoted", "code", "output", "error"
PARTS = (TITLE, PROSE, QUOTED, CODE, OUTPUT, ERROR)
PART_WEIGHTS: Mapping[str, float] = {TITLE: 3.0, PROSE: 1.0, QUOTED: 2.0, CODE: 0.5, OUTPUT: 0.5, ERROR: 1.0}
"""How much a term counts that stands in each part; what is quoted in prose counts as prose too. Between half and twice
each of these the held-out recall moves by less than its error (docs/retrieval.md)."""


@dataclass(frozen=True)
class Frame:
    """A line of a traceback."""

    path: str
    line: int
    name: str


@dataclass(frozen=True)
class Query:
    """An issue, taken apart."""

    parts: Mapping[str, Counter[str]]
    """Terms of each of PARTS, as often as they occur, repeated lines once."""
    frames: tuple[Frame, ...] = ()
    """Innermost last, as Python prints them."""
    paths: tuple[str, ...] = ()
    """What looks like a file's path or name outside tracebacks, in order of appearance."""
    dotted: tuple[str, ...] = ()
    """Dotted names, in order of appearance."""
    names: Mapping[str, float] = field(default_factory=dict)
    """Identifiers that look like code (quoted, snake_case, camelCase), as written; how often."""

    def weights(self, part_weights: Mapping[str, float] = PART_WEIGHTS) -> dict[str, float]:
        """The weight of each term: the sum over the parts it stands in, saturated (as BM25's k3 does it, k3 = 4), so
        that what is repeated a hundred times does not drown the rest. Common words of English and of issue templates,
        numbers and single letters are left out."""
        sums: dict[str, float] = {}
        for part in PARTS:
            for term, times in self.parts.get(part, {}).items():
                if len(term) > 1 and not term.isdigit() and term not in _STOP and part_weights.get(part):
                    sums[term] = sums.get(term, 0.0) + times * part_weights[part]
        return {term: total * (_SATURATION + 1) / (total + _SATURATION) for term, total in sums.items()}

    def with_names(self, names: Sequence[str]) -> "Query":
        """The query with `names` (identifiers) as if the issue had quoted them once more."""
        quoted = Counter(self.parts[QUOTED])
        for name in names:
            quoted.update(split_identifier(name))
        counted = dict(self.names)
        for name in names:
            counted[name] = counted.get(name, 0) + 1
        return replace(self, parts={**self.parts, QUOTED: quoted}, names=counted)


def parse(text: str) -> Query:
    """Take the issue `text` apart. Its first line is its title."""
    text = _COMMENT.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    paths: dict[str, None] = {}

    def url(match: re.Match[str]) -> str:
        if found := _BLOB_URL.search(match[0]):
            paths.setdefault(found[1])
        return " "

    text = _URL.sub(url, text)
    frames = tuple(
        Frame(
            (m["path"] or m["path2"]).replace("\\", "/"),
            int(m["line"] or m["line2"] or 0),
            m["name"] or m["name2"] or m["name3"] or "",
        )
        for m in _FRAME.finditer(text)
    )
    parts: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
    names: Counter[str] = Counter()
    dotted: dict[str, None] = {}
    seen: set[str] = set()
    fenced, traceback, first = False, False, True
    for line in text.split("\n"):
        bare = line.strip()
        if _FENCE.match(line):
            fenced, traceback = not fenced if bare.count("```") < 2 else fenced, False
            continue
        if not bare:
            continue
        if bare in seen:
            continue
        seen.add(bare)
        if bare.startswith("Traceback (most recent"):
            traceback = True
        if _VERSION_LINE.match(line) and not first:
            continue
        framed = _FRAME.match(bare)
        if not framed:
            for m in _PATH.finditer(line):
                paths.setdefault(m[0])
        for m in _DOTTED.finditer(line):
            dotted.setdefault(m[0])
        error = _ERROR.match(line)
        if error:
            part, traceback = ERROR, False
        elif first:
            part = TITLE
        elif traceback or framed:
            part = OUTPUT
        elif fenced or line.startswith(("    ", "\t", ">>>", "...")):
            part = CODE
        else:
            part = PROSE
        first = False
        found = identifiers(line)
        for match in _KEBAB.finditer(line):
            found.append(match[1].replace("-", "_"))
        for identifier in found:
            parts[part].update(split_identifier(identifier))
            if _CODE_LIKE.search(identifier):
                names[identifier] += 1
        if part in (TITLE, PROSE):
            for match in _QUOTED.finditer(line):
                for identifier in identifiers(match[1]):
                    parts[QUOTED].update(split_identifier(identifier))
                    names[identifier] += 1
    return Query(parts, frames, tuple(paths), tuple(dotted), dict(names))
