"""Rewritten functions of an answer -> edits: each is put in the place of the one that it is meant for.

Knows answers and Python files. What can't be told (two functions that fit, code that doesn't parse, a part left out) is
a problem in words, and what is left aside (calls, examples) is said.
"""

import ast
import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise

from steergraph.agents.edits.blocks import Edit, ParsedEdits, join_lines
from steergraph.agents.edits.formats.definitions import Definition, Node, definitions, first_line, meant, same_code
from steergraph.agents.edits.formats.fences import Code, code_in
from steergraph.agents.edits.formats.layout import fitted
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.headers import path_near
from steergraph.agents.edits.parsing import program

_IMPORTS = (ast.Import, ast.ImportFrom)


def parse_functions(answer: str, shown: Shown) -> ParsedEdits:
    """The edits that an answer's functions ask for. Never raises.

    A function goes where one of its name stands: in the file that is named near it, else in those that were shown,
    where the shown lines decide first. Methods are found inside their class or bare. Decorators that the answer leaves
    out stay. Imports, helpers and constants that come along are added; calls and prints are left out, and that is said.
    """
    codes = [code for code in code_in(answer) if _may_be_python(code)]
    if not codes:
        return ParsedEdits(
            edits=(), problems=("there is no code in the answer: write the corrected function in a fence",)
        )
    plan = _Plan(shown)
    for code in codes:
        plan.add(code)
    return plan.edits()


def _may_be_python(code: Code) -> bool:
    word = code.info.split(" ")[0].split(":")[0].lower()
    return word not in ("diff", "bash", "sh", "shell", "console", "text", "json", "yaml", "toml")


class _File:
    """A file, its definitions, and the edits of it by the line they begin at."""

    def __init__(self, path: str, text: str, shown: Sequence[tuple[int, int]]) -> None:
        self.path = path
        self.lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        tree = program("\n".join(self.lines))
        self.tree = tree if isinstance(tree, ast.Module) else None
        self.known = list(definitions(self.tree, path)) if self.tree else []
        self.seen = [one for one in self.known if any(first <= one.last and one.first <= last for first, last in shown)]
        self.changes: dict[tuple[int, int], list[str]] = {}
        """(first line, number of lines) -> the new lines."""


class _Plan:
    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        self.files: dict[str, _File | None] = {}
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.unchanged: list[str] = []

    def add(self, code: Code) -> None:
        tree = program(code.text)
        if isinstance(tree, str):
            cut = "" if code.closed else "the answer ends inside the code; "
            self.problems.append(f"the code can't be read: {cut}{tree}")
            return
        path = path_near(code.info.partition(" ")[2], code.above, self.shown.paths, alone=False)
        files = [file for name in self._where(path) if (file := self._file(name))]
        lines = code.text.split("\n")
        first = len(self.problems)
        placed: list[_File] = []
        new: list[ast.stmt] = []
        for node, around in _parts(tree, files):
            if not isinstance(node, Node):
                new.append(node)
            elif (target := self._target(node, around, files)) is None:
                if len(self.problems) == first:
                    new.append(node)
            else:
                placed.append(file := self._file_of(target))
                self._replace(file, target, node, lines)
        if placed:
            self._along(placed[0], new, lines, min((k for k, _ in placed[0].changes), default=1))
        elif len(self.problems) == first and not self.unchanged:
            names = [node.name for node in new if isinstance(node, Node)]
            where = path or ", ".join(self.shown.files) or "the files that were shown"
            what = f"no function called {', '.join(names)} stands in {where}" if names else "the code has no function"
            self.problems.append(f"{what}: write the whole corrected function, under its own name")

    def _where(self, path: str | None) -> list[str]:
        return [path] if path in self.shown.paths and path is not None else list(self.shown.files)

    def _file(self, path: str) -> _File | None:
        if path not in self.files:
            try:
                text = self.shown.read(path)
            except (OSError, ValueError) as error:
                self.problems.append(f"{path}: {error}")
                text = None
            self.files[path] = None if text is None else _File(path, text, self.shown.files.get(path, ()))
            file = self.files[path]
            if file is not None and file.tree is None and path.endswith(".py"):
                self.problems.append(
                    f"{path} itself can't be read as Python, so that no function of it can be replaced"
                )
        return self.files[path]

    def _file_of(self, target: Definition) -> _File:
        file = self.files[target.path]
        assert file is not None
        return file

    def _target(self, node: Node, around: tuple[str, ...], files: Sequence[_File]) -> Definition | None:
        for known in ([one for file in files for one in file.seen], [one for file in files for one in file.known]):
            found = meant(node, around, known)
            if len(found) == 1:
                return found[0]
            if found:
                places = "; ".join(one.where for one in found)
                self.problems.append(
                    f"`{node.name}` may be any of {len(found)} ({places}): write the class around it, its decorators, "
                    "or the file's path above it"
                )
                return None
        return None

    def _replace(self, file: _File, target: Definition, node: Node, lines: Sequence[str]) -> None:
        if same_code(_undecorated(node, target), target.node):
            self.unchanged.append(f"`{node.name}` is as it was in {target.where}")
            return
        own = first_line(node)
        start = target.first if node.decorator_list else target.head
        old = file.lines[start - 1 : target.last]
        new = _dedented(lines[own - 1 : node.end_lineno])
        key = (start, len(old))
        clash = [k for k in file.changes if k != key and k[0] < start + len(old) and start < k[0] + k[1]]
        if clash or (key in file.changes and file.changes[key] != fitted(new, old)):
            self.problems.append(f"`{node.name}` is written twice, and differently")
            return
        file.changes[key] = fitted(new, old)

    def _along(self, file: _File, new: Sequence[ast.stmt], lines: Sequence[str], before: int) -> None:
        """Imports, helpers and constants that came with a function; what else came is left out and said."""
        assert file.tree is not None
        there = {ast.dump(node) for node in ast.walk(file.tree) if isinstance(node, ast.stmt)}
        imports, helpers = [], []
        for node in new:
            first = first_line(node)
            text = list(lines[first - 1 : node.end_lineno])
            if isinstance(node, _IMPORTS):
                imports += [] if ast.dump(node) in there or not _adds(node, file.tree) else text
            elif isinstance(node, Node) or (isinstance(node, ast.Assign | ast.AnnAssign) and _is_new(node, file.tree)):
                helpers += [*text, "", ""] if isinstance(node, Node) else [*text, ""]
            elif ast.dump(node) not in there and not _is_text(node):
                self.notes.append(f"{file.path}: left out `{text[0].strip()[:60]}`, which is no part of a function")
        if imports:
            self._insert(file, _import_line(file.tree), imports)
        if helpers:
            outer = next((one for one in file.known if one.first <= before <= one.last), None)
            self._insert(file, outer.first if outer else before, helpers)

    def _insert(self, file: _File, line: int, text: Sequence[str]) -> None:
        """`text` before `line`; a change that begins there takes it in front."""
        for (start, count), new in file.changes.items():
            if start == line:
                file.changes[start, count] = [*text, *new]
                return
        kept = file.lines[line - 1 : line]
        file.changes[line, len(kept)] = [*text, *kept]

    def edits(self) -> ParsedEdits:
        """From a file's end to its beginning, so that every line number is that of the file as it is."""
        edits = [
            Edit(
                path=path,
                kind="change",
                search=join_lines(file.lines[start - 1 : start - 1 + count]),
                replace=join_lines(new),
                at=start,
            )
            for path, file in self.files.items()
            if file is not None
            for (start, count), new in sorted(file.changes.items(), reverse=True)
        ]
        problems = self.problems
        if not edits and not problems:
            problems = [f"nothing changes: {'; '.join(self.unchanged)}"]
        return ParsedEdits(edits=tuple(edits), problems=tuple(problems), notes=tuple(self.notes))


def _parts(tree: ast.Module, files: Sequence[_File]) -> Iterator[tuple[ast.stmt, tuple[str, ...]]]:
    """The statements of an answer; of a class that stands in a file its methods one by one, and a new one whole."""
    classes = {one.node.name for file in files for one in file.known if isinstance(one.node, ast.ClassDef)}

    def of(body: Sequence[ast.stmt], around: tuple[str, ...]) -> Iterator[tuple[ast.stmt, tuple[str, ...]]]:
        for node in body:
            if isinstance(node, ast.ClassDef) and node.name in classes:
                yield from of(node.body, (*around, node.name))
            else:
                yield node, around

    return of(tree.body, ())


def _undecorated(node: Node, target: Definition) -> ast.AST:
    """`node` with the decorators of `target` where it has none: leaving them out leaves them as they are."""
    if node.decorator_list:
        return node
    bare = copy.copy(node)
    bare.decorator_list = target.node.decorator_list
    return bare


def _adds(node: ast.stmt, tree: ast.Module) -> bool:
    """Whether an import brings a name that the file has not imported."""
    names = {alias.asname or alias.name for alias in getattr(node, "names", ())}
    have = {alias.asname or alias.name for one in ast.walk(tree) if isinstance(one, _IMPORTS) for alias in one.names}
    return not names <= have


def _is_new(node: ast.Assign | ast.AnnAssign, tree: ast.Module) -> bool:
    targets = {ast.dump(t) for t in (node.targets if isinstance(node, ast.Assign) else [node.target])}
    return all(isinstance(t, ast.Name) for t in getattr(node, "targets", [getattr(node, "target", None)])) and not any(
        ast.dump(target) in targets
        for one in tree.body
        if isinstance(one, ast.Assign | ast.AnnAssign)
        for target in (one.targets if isinstance(one, ast.Assign) else [one.target])
    )


def _is_text(node: ast.stmt) -> bool:
    """A docstring or `...`, which say nothing that runs."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _import_line(tree: ast.Module) -> int:
    """The line before which a new import goes: behind the module's docstring and `__future__`, before what follows."""
    last = 0
    for node, following in pairwise([*tree.body, None]):
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if node is not None and ((_is_text(node) and not last) or future):
            last = node.end_lineno or 0
            if following is None:
                return last + 1
        else:
            return first_line(node) if node is not None else 1
    return 1


def _dedented(lines: Sequence[str]) -> list[str]:
    lead = len(lines[0]) - len(lines[0].lstrip(" \t"))
    return [line[lead:] if not line[:lead].strip() else line for line in lines]
