"""Grammars of edits to files that were shown: what is said by them can be read, and applies.

Knows the two ways of saying an edit and the texts of files. Knows nothing of models or prompts. Paths, SEARCH lines and
names are copied from the files; what is free is what shall stand there instead.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from steergraph.agents.edits.blocks import parse_edits
from steergraph.agents.edits.elision import PLACEHOLDERS
from steergraph.agents.edits.formats import FormatName
from steergraph.agents.edits.formats.definitions import Definition, definitions
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.headers import bare_path
from steergraph.agents.edits.parsing import program
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
# Of Python. A model that would not close the fence (its token was said before, and is penalised) begins with fewer.
_BACKTICK = r"[ \t]*(?:`|~~~)[^\n]*"
# Many tokenizers have no token for three that end a line: Qwen's writes two, then one with the line's end. To such a
# model a fence that had to end the answer was none, and it went on in the middle of the code.
_CLOSE = r"CLOSE: /```\n?\n?/"
_ELLIPSIS = r"[ \t]*(?:\.{3}|…)[^\n]*"
_LONGEST = 400
_PYTHON = (".py", ".pyi")


class EditGrammar(NamedTuple):
    """A grammar, and what of the files it can't say, in words."""

    grammar: Grammar
    left_out: tuple[str, ...]


def edit_grammar(form: FormatName, shown: Shown) -> EditGrammar | None:
    """The grammar of an edit said in a format, to the files that were shown; None for a format that has none.

    Raises InputError where no edit of them is possible.
    """
    if form not in ("whole_function", "search_replace"):
        return None
    files, left_out = dict[str, str](), list[str]()
    for path in shown.files:
        try:
            text = shown.read(path)
        except (OSError, ValueError) as error:
            left_out.append(f"{path}: {error}")
            continue
        if text is not None:
            files[path] = text
    found = whole_function(files, shown.files) if form == "whole_function" else search_replace(files)
    return found._replace(left_out=(*left_out, *found.left_out))


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


def whole_function(
    files: Mapping[str, str], shown: Mapping[str, Sequence[tuple[int, int]]] | None = None
) -> EditGrammar:
    """One definition of one of `files`, whole, in a closed fence, with a change in it; behind `python` in the fence may
    stand the file's path.

    It is a `def` or `class` that `shown` (path to first and last lines, 1-based) has a part of; without it, any. Its
    name stands once among these, or in its file alone, and then the path is said. The lines may not begin with all that
    the definition has now: they leave it at a line of code, or end before it ends. That the new lines are Python is not
    held to.

    Raises InputError where there is no such definition.
    """
    left_out: list[str] = []
    found: list[Definition] = []
    lines: dict[str, list[str]] = {}
    for path, text in _editable(files, left_out).items():
        text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        tree = program(text) if path.endswith(_PYTHON) else "it is no Python"
        if isinstance(tree, str):
            left_out.append(f"{path}: {tree}")
            continue
        every = list(definitions(tree, path))
        spans = [(1, len(text))] if shown is None else shown.get(path, ())
        seen = [one for one in every if any(first <= one.last and one.first <= last for first, last in spans)]
        names = [one.node.name for one in seen]
        if lost := sorted({name for name in names if names.count(name) > 1}):
            left_out.append(f"{path}: {', '.join(lost[:6])}: defined more than once")
        found += [one for one in seen if names.count(one.node.name) == 1]
        lines[path] = text.split("\n")
    if not found:
        raise InputError(f"no function can be written anew: {'; '.join(left_out) or 'there is no file'}")
    known = [one.node.name for one in found]
    rules = [_CLOSE, _free_line("LINE", (_BACKTICK, *PLACEHOLDERS)), _free_line("DECORATOR", (_BACKTICK,), r"[ \t]*@")]
    room, copied = MOST_LINES, 0
    for k, one in enumerate(found):
        own = lines[one.path][one.head - 1 : one.last]
        room -= len(own)
        copied += room < 0
        rules += _anew(f"d{k}", one, own if room >= 0 else (), bare=known.count(one.node.name) == 1)
    if copied:
        left_out.append(f"there is room for {MOST_LINES} lines: {copied} of {len(found)} definitions may be copied")
    start = "start: " + " | ".join(f"d{k}" for k in range(len(found)))
    return EditGrammar(Grammar(lark="\n".join([start, *rules])), tuple(left_out))


def _anew(me: str, one: Definition, own: Sequence[str], *, bare: bool) -> list[str]:
    """The rules of a definition that is written anew, and not as its `own` lines are. `bare`: without its path."""
    forms = ["```python\n"] if bare else []
    opened = " | ".join(literal(form) for form in [*forms, f"```python {one.path}\n"])
    kind, name = ("class", "[(:\\[]") if isinstance(one.node, ast.ClassDef) else ("(?:async )?def", "[(\\[]")
    head = rf"[ \t]*{kind} {re.escape(one.node.name)}{name}"
    lead = len(own[0]) - len(own[0].lstrip()) if own else 0
    ways = [own, [line[lead:] if not line[:lead].strip() else line for line in own]] if lead else [own]
    ways = [way for way in ways if way and _sayable(way[0])]
    rules = [f"{me}: ({opened}) DECORATOR* ({' | '.join([f'{me}_other', *(f'{me}w{k}_0' for k in range(len(ways)))])})"]
    rules.append(f"{me}_other: {me.upper()}_HEAD LINE+ CLOSE")
    as_it_is = [re.escape(way[0]) for way in ways]
    rules.append(_free_line(f"{me.upper()}_HEAD", (_BACKTICK, *as_it_is), head))
    for k, way in enumerate(ways):
        rules += _changed(f"{me}w{k}", way)
    return rules


def _changed(me: str, lines: Sequence[str]) -> list[str]:
    """Rules of a text that begins as `lines` do, and leaves them before their end at a line of code."""
    rules = []
    for k, line in enumerate(lines):
        last = k == len(lines) - 1
        same = f"{literal(line + chr(10))} {me}_{k + 1}"
        if k == 0:
            rules.append(f"{me}_0: {same}" if not last else f"{me}_0: {literal(line + chr(10))} LINE+ CLOSE")
            continue
        if not _sayable(line):  # so that nothing behind it is as it was
            rules.append(f"{me}_{k}: LINE+ CLOSE")
            break
        ways = [f"{me.upper()}_{k} LINE* CLOSE", *(["CLOSE"] if k > 1 else []), *([] if last else [same])]
        rules.append(f"{me}_{k}: " + " | ".join(ways))
        refused = (_BACKTICK, _ELLIPSIS, r"[ \t]*(?:#[^\n]*)?", rf"{re.escape(line.rstrip())}[ \t]*(?:#[^\n]*)?")
        rules.append(_free_line(f"{me.upper()}_{k}", refused))
    return rules


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


def _sayable(line: str) -> bool:
    """Whether a line can be asked for as it is: a very long one costs more than it tells."""
    return len(line) <= _LONGEST and _fits(line, ())


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
