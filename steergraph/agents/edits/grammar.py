"""Grammars of edits to files that were shown: what is said by them can be read, and applies.

Knows the two ways of saying an edit and the texts of files. Knows nothing of models or prompts. Paths, SEARCH lines and
names are copied from the files; what is free is what shall stand there instead.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from steergraph.agents.edits.blocks import parse_edits
from steergraph.agents.edits.elision import PLACEHOLDERS
from steergraph.agents.edits.headers import bare_path
from steergraph.agents.edits.patch import split_lines
from steergraph.agents.edits.paths import UnsafePath, safe_path
from steergraph.base.errors import InputError
from steergraph.configs import load_config
from steergraph.engine.constrain.grammar import Grammar, literal

MOST_LINES = 1000
"""Of all files together: more take seconds to compile, and steps that are slow."""
# Regular expressions of lines without their ends. Python and Rust (llguidance's syntax) read them alike, and take the
# characters of `_TEXT` for the same kinds.
_TEXT = r"[^\x00-\x08\n\x0b\x0d-\x1f\x7f]*"
# What the parser of blocks takes for a marker, and a little more.
_MARKERS = (r"[ \t]*<<<<[^\n]*", r">>>>[^\n]*", r"={4,}\s*")
_FENCE = r"[ \t]*(?:```|~~~)[^\n]*"
_DEFINED = re.compile(r"^[ \t]*(?:async[ \t]+)?(def|class)[ \t]+(\w+)[ \t]*(?=[(\[:])", re.MULTILINE)
_PYTHON = (".py", ".pyi")


class EditGrammar(NamedTuple):
    """A grammar, and what of the files it can't say, in words."""

    grammar: Grammar
    left_out: tuple[str, ...]


def search_replace(files: Mapping[str, str]) -> EditGrammar:
    """Edit blocks (configs/edit_format.yaml): of each the path is one of `files` (path to text), SEARCH a run of its
    lines that stands there once and holds a line with text, REPLACE free but for markers, line numbers and placeholders
    for code that is left out. Several blocks follow the order of the files and of their lines.

    An edit that changes nothing is not excluded: `apply_edits` says so. Raises InputError where nothing can be edited.
    """
    left_out: list[str] = []
    refused = (*_MARKERS, *PLACEHOLDERS, rf"[ \t]*{_line_number()}[^\n]*")
    room, blocks = MOST_LINES, list[_Block]()
    for path, text in _editable(files, left_out).items():
        lines = [line.text for line in split_lines(text.removeprefix("\ufeff"))]
        if len(lines) > room:
            left_out.append(f"{path}: it has {len(lines)} lines, and there is room for {room} more")
            continue
        room -= len(lines)
        block = _Block(f"f{len(blocks)}", path, lines, [_fits(line, refused) for line in lines])
        if lost := block.lost:
            shown = ", ".join(str(k + 1) for k in lost[:6]) + (", ..." if len(lost) > 6 else "")
            left_out.append(f"{path}: no SEARCH begins at line {shown}: it would stand twice, or can't be copied")
        if block.starts:
            blocks.append(block)
    if not blocks:
        raise InputError(f"no edit is possible: {'; '.join(left_out) or 'there is no file'}")
    words = load_config("edit_format")
    rules = ["start: f0", _free_line("NEW", refused)]
    rules += [f"DIVIDER: {literal(words['divider'] + chr(10))}", f"CLOSE: {literal(words['replace'])}"]
    for block, then in zip(blocks, [*blocks[1:], None], strict=True):
        rules += block.rules(words["search"], then.name if then else None)
    return EditGrammar(Grammar(lark="\n".join(rules)), tuple(left_out))


def whole_function(files: Mapping[str, str]) -> EditGrammar:
    """One definition, whole, in a closed fence: its info string is `python PATH`, with the path of one of `files`, and
    the definition is a `def` or `class` of a name that the file defines once.

    Raises InputError where no file defines one.
    """
    left_out: list[str] = []
    heads, rules = (
        list[str](),
        [_free_line("LINE", (_FENCE, *PLACEHOLDERS)), _free_line("DECORATOR", (_FENCE,), r"[ \t]*@")],
    )
    for path, text in _editable(files, left_out).items():
        found = _DEFINED.findall(text) if path.endswith(_PYTHON) else []
        once = [(kind, name) for kind, name in found if [other for _, other in found].count(name) == 1]
        if lost := sorted({name for _, name in found} - {name for _, name in once}):
            left_out.append(f"{path}: {', '.join(lost[:6])}: defined more than once")
        if not once:
            left_out.append(f"{path}: it defines nothing that a name tells")
            continue
        k = len(heads)
        heads.append(f"{literal(f'```python {path}' + chr(10))} DECORATOR* HEAD{k} LINE+")
        names = {word: "|".join(re.escape(name) for kind, name in once if kind == word) for word in ("def", "class")}
        forms = [rf"(?:async )?def (?:{names['def']})[\[(]"] if names["def"] else []
        forms += [rf"class (?:{names['class']})[\[(:]"] if names["class"] else []
        head = _regex(rf"[ \t]*(?:{'|'.join(forms)}){_TEXT}\n")
        rules.append(f"HEAD{k}: {head}")
    if not heads:
        raise InputError(f"no function can be written anew: {'; '.join(left_out) or 'there is no file'}")
    start = f'start: ({" | ".join(heads)}) "```"'
    return EditGrammar(Grammar(lark="\n".join([start, *rules])), tuple(left_out))


class _Block:
    """The blocks of one file, as rules named after it."""

    def __init__(self, name: str, path: str, lines: Sequence[str], usable: Sequence[bool]) -> None:
        self.name, self._path, self._lines, self._usable = name, path, lines, usable
        self.starts = {k: end for k in range(len(lines)) if (end := self._shortest(k)) is not None}
        """By the line at which a SEARCH may begin, the end of the shortest one."""

    @property
    def lost(self) -> list[int]:
        """Lines with text at which none may begin."""
        return [k for k, line in enumerate(self._lines) if line.strip() and k not in self.starts]

    def _shortest(self, start: int) -> int | None:
        """Where the shortest SEARCH from `start` on ends that has text, none of it copied numbers alone, and stands
        once; every longer one does too."""
        rivals = [k for k, line in enumerate(self._lines) if line == self._lines[start]]
        telling = False
        for end in range(start, len(self._lines)):
            line, size = self._lines[end], end - start
            if not self._usable[end]:
                return None
            telling = telling or bool(line.strip())
            rivals = [k for k in rivals if k + size < len(self._lines) and self._lines[k + size] == line]
            if telling and len(rivals) == 1:
                return end + 1
        return None

    def rules(self, search: str, then: str | None) -> list[str]:
        """`then` is the rule of the next file's blocks."""
        me, last = self.name, max(self.starts)
        head = literal(f"{_path_line(self._path)}\n{search}\n")
        rules = [f"{me}: {me}_here_0" + (f" | {then}" if then else "")]
        rules += [f"{me}_here_{k}: {head} {me}_from_{k}" for k in range(last + 1)]
        for k in range(last + 1):
            ways = [f"{me}_run_{k}"] if k in self.starts else []
            rules.append(f"{me}_from_{k}: " + " | ".join([*ways, *([f"{me}_from_{k + 1}"] if k < last else [])]))
        for start, end in self.starts.items():
            rules.append(f"{me}_run_{start}: {' '.join(map(self._terminal, range(start, end)))} {me}_on_{end}")
        for k in range(len(self._lines) + 1):
            more = [*([f"{me}_here_{k}"] if k <= last else []), *([then] if then else [])]
            again = f' ("\\n" ({" | ".join(more)}))?' if more else ""
            longer = k < len(self._lines) and self._usable[k]
            on = f" | {self._terminal(k)} {me}_on_{k + 1}" if longer else ""
            rules.append(f"{me}_on_{k}: DIVIDER NEW* CLOSE{again}{on}")
        return rules

    def _terminal(self, k: int) -> str:
        return literal(self._lines[k] + "\n")


def _editable(files: Mapping[str, str], left_out: list[str]) -> dict[str, str]:
    """Those of `files` that an edit may name, by paths that the parser reads as they are."""
    editable = {}
    for path, text in files.items():
        try:
            safe_path(path)
            (path + text).encode("utf-8")
        except (UnsafePath, UnicodeEncodeError) as error:
            left_out.append(str(error) if isinstance(error, UnsafePath) else f"{path!a}: it is not UTF-8")
            continue
        words = load_config("edit_format")
        trial = f"{_path_line(path)}\n{words['search']}\na\n{words['divider']}\nb\n{words['replace']}"
        if [edit.path for edit in parse_edits(trial, list(files)).edits] != [path]:
            left_out.append(f"{path}: a block can't name it")
        elif "\0" in text:
            left_out.append(f"{path}: it is binary")
        else:
            editable[path] = text
    return editable


def _path_line(path: str) -> str:
    return path if bare_path(path) else f"`{path}`"


def _line_number() -> str:
    """How a shown line's number stands before it."""
    before, _, rest = load_config("edit_format")["passage_line"].partition("{number}")
    return rf"{re.escape(before)}\d+{re.escape(rest.partition('{text}')[0])}"


def _fits(line: str, refused: Sequence[str]) -> bool:
    """Whether `_free_line` has `line`."""
    return bool(re.fullmatch(_TEXT, line)) and not any(re.fullmatch(pattern, line) for pattern in refused)


def _free_line(name: str, refused: Sequence[str], begin: str = "") -> str:
    """A terminal: any line that is none of `refused`."""
    end = r"\n"
    line = _regex(begin + _TEXT + end)
    return f"{name}: {line} & ~({' | '.join(_regex(f'(?:{pattern})' + end) for pattern in refused)})"


def _regex(pattern: str) -> str:
    return "/" + pattern.replace("/", r"\/") + "/"
