"""What one file's content says for a search: which terms stand where, in which kind of text.

Knows how Python is written (names, strings, docstrings, comments); any other text is one field of words. Knows nothing
of the file's path, of queries or of scores, so that the analysis of a blob serves every path and commit that has it.
`BlobTerms.to_bytes` and `from_bytes` are what a cache keeps, by `VERSION`.
"""

import re
import struct
from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steergraph.retrieval import terms
from steergraph.retrieval.passages import Piece, pieces
from steergraph.retrieval.terms import term_id

VERSION = terms.VERSION * 1000 + 4
"""Of the analysis: bytes kept anywhere are only read back by the version that made them."""

FIELDS = ("code", "name", "doc", "comment", "string", "path")
"""Kinds of text. `name`: what a `def`, a `class` or an assignment outside functions names. `path`: never in a blob."""
CODE, NAME, DOC, COMMENT, STRING, PATH = range(len(FIELDS))

_TOKEN = re.compile(
    r"""(?P<string>[A-Za-z]{0,2}(?:\"{3}[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:\"{3})?"""
    r"""|'{3}[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*(?:'{3})?"""
    r"""|"[^"\\\n]*(?:\\.[^"\\\n]*)*"?|'[^'\\\n]*(?:\\.[^'\\\n]*)*'?))"""
    r"""|(?P<comment>\#[^\n]*)|(?P<name>[^\W\d]\w*)""",
    re.DOTALL,
)
_DEFINED = re.compile(
    r"^(?:[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+|(?:    |\t)?(?=[^\W\d]\w*[ \t]*(?::[^=\n]+)?=[^=]))"
    r"([^\W\d]\w*)",
    re.MULTILINE,
)
_HEAD = struct.Struct("<IIIIII")


@dataclass(frozen=True)
class BlobTerms:
    """The analysis of one blob. Row i says: term `term[i]` stands `count[i]` times in field `field[i]` of leaf
    `leaf[i]`. Leaves are the file's pieces that hold no other piece: together they cover it, and none overlap."""

    first: NDArray[np.uint32]
    """(leaves,) First line of each leaf, 1-based."""
    last: NDArray[np.uint32]
    """(leaves,) Last line of each leaf, included."""
    names: tuple[str, ...]
    """(leaves,) Dotted name that each leaf defines, or ""."""
    outer: NDArray[np.uint32]
    """(outer pieces, 2) First and last lines of the pieces that hold others, in the order of `passages.pieces`."""
    outer_names: tuple[str, ...]
    leaf: NDArray[np.uint32]
    field: NDArray[np.uint8]
    term: NDArray[np.uint64]
    """(rows,) `term_id` of the terms."""
    count: NDArray[np.uint16]

    def pieces(self) -> list[Piece]:
        """What `passages.pieces` said of the blob."""
        leaves = map(Piece, self.first.tolist(), self.last.tolist(), self.names)
        outer = [Piece(a, b, name) for (a, b), name in zip(self.outer.tolist(), self.outer_names, strict=True)]
        return sorted([*leaves, *outer], key=lambda piece: (piece.first, -piece.last, piece.name))

    def to_bytes(self) -> bytes:
        said = ["\n".join(part).encode("utf-8", "surrogatepass") for part in (self.names, self.outer_names)]
        head = _HEAD.pack(VERSION, len(self.first), len(self.outer), len(self.leaf), *map(len, said))
        arrays = (self.term, self.first, self.last, self.outer, self.leaf, self.count, self.field)
        return b"".join([head, *(a.tobytes() for a in arrays), *said])

    @classmethod
    def from_bytes(cls, data: bytes) -> "BlobTerms":
        """Raises ValueError where `data` is not what `to_bytes` of this VERSION wrote."""
        if len(data) < _HEAD.size:
            raise ValueError("not an analysis")
        version, leaves, outer, rows, *sizes = _HEAD.unpack_from(data)
        if version != VERSION or len(data) != _HEAD.size + rows * 15 + (leaves + outer) * 8 + sum(sizes):
            raise ValueError("not an analysis of this version")
        at = _HEAD.size

        def take(kind: str, n: int) -> NDArray[Any]:
            nonlocal at
            found = np.frombuffer(data, dtype=kind, count=n, offset=at)
            at += found.nbytes
            return found

        term, first, last = take("<u8", rows), take("<u4", leaves), take("<u4", leaves)
        holding = take("<u4", 2 * outer).reshape(outer, 2)
        leaf, count, field = take("<u4", rows), take("<u2", rows), take("<u1", rows)
        said = []
        for size in sizes:
            said.append(data[at : at + size].decode("utf-8", "surrogatepass"))
            at += size
        named, outer_named = said
        return cls(
            first=first,
            last=last,
            names=tuple(named.split("\n")) if leaves else (),
            outer=holding,
            outer_names=tuple(outer_named.split("\n")) if outer else (),
            leaf=leaf,
            field=field,
            term=term,
            count=count,
        )


@lru_cache(maxsize=1 << 18)
def _ids(identifier: str) -> tuple[int, ...]:
    return tuple(term_id(term) for term in terms.split_identifier(identifier))


def path_ids(path: str) -> list[int]:
    """Term ids of a path, as often as they occur."""
    return [i for identifier in terms.identifiers(path) for i in _ids(identifier)]


def analyse(path: str, text: str) -> BlobTerms:
    """The analysis of a file. Of `path` only its suffix is looked at: whether the file is Python."""
    python = path.endswith((".py", ".pyi"))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    all_pieces = pieces(path, text)
    leaves = _leaves(all_pieces)
    inmost = set(leaves)
    outer = [piece for piece in all_pieces if piece not in inmost]
    found = _python(text, leaves) if python else _plain(text, leaves)
    rows: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for (leaf, field), identifiers in found.items():
        counts = rows[leaf, field]
        for identifier, n in Counter(identifiers).items():
            for i in _ids(identifier):
                counts[i] += n
    leaf_, field_, term_, count_ = array("L"), array("B"), array("Q"), array("L")
    for (leaf, field), counts in rows.items():
        n = len(counts)
        leaf_.extend([leaf] * n)
        field_.extend([field] * n)
        term_.extend(counts.keys())
        count_.extend(counts.values())
    return BlobTerms(
        first=np.array([piece.first for piece in leaves], dtype="<u4"),
        last=np.array([piece.last for piece in leaves], dtype="<u4"),
        names=tuple(piece.name for piece in leaves),
        outer=np.array([(piece.first, piece.last) for piece in outer], dtype="<u4").reshape(len(outer), 2),
        outer_names=tuple(piece.name for piece in outer),
        leaf=np.array(leaf_, dtype="<u4"),
        field=np.array(field_, dtype="<u1"),
        term=np.array(term_, dtype="<u8"),
        count=np.minimum(np.array(count_, dtype="<u8"), 65535).astype("<u2"),
    )


def _leaves(found: list[Piece]) -> list[Piece]:
    """The pieces that hold no other, by first line. `found` is ordered as `pieces` orders."""
    return [
        piece for piece, following in zip_longest(found, found[1:]) if following is None or following.first > piece.last
    ]


def _python(text: str, leaves: list[Piece]) -> dict[tuple[int, int], list[str]]:
    """Identifiers by leaf and field."""
    found: dict[tuple[int, int], list[str]] = defaultdict(list)
    starts = [0]
    while (at := text.find("\n", starts[-1])) >= 0:
        starts.append(at + 1)
    # Where each leaf starts, in characters: what precedes the first leaf holds nothing but blank lines.
    edges = [starts[piece.first - 1] for piece in leaves]
    defined = {match.start(1) for match in _DEFINED.finditer(text)}
    leaf, following = -1, edges[0] if edges else len(text)
    code: list[str] = []
    for match in _TOKEN.finditer(text):
        start = match.start()
        if start >= following:
            leaf = bisect_right(edges, start) - 1
            following = edges[leaf + 1] if leaf + 1 < len(edges) else len(text)
            code = found[leaf, CODE]
        kind = match.lastgroup
        if kind == "name":
            code.append(match[0])
            if start in defined:
                found[leaf, NAME].append(match[0])
        elif kind == "comment":
            found[leaf, COMMENT].extend(terms.identifiers(match[0]))
        else:
            said = match[0]
            alone = text[text.rfind("\n", 0, start) + 1 : start].isspace() or text[start - 1 : start] in ("", "\n")
            field = DOC if alone and said.lstrip("rRuUbB")[:3] in ('"""', "'''") else STRING
            found[leaf, field].extend(terms.identifiers(said.lstrip("rRuUbBfF") if said[0] not in "'\"" else said))
    return found


def _plain(text: str, leaves: list[Piece]) -> dict[tuple[int, int], list[str]]:
    lines = text.split("\n")
    return {
        (leaf, CODE): terms.identifiers("\n".join(lines[piece.first - 1 : piece.last]))
        for leaf, piece in enumerate(leaves)
    }
