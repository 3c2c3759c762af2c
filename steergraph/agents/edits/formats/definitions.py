"""Where functions and classes stand in Python source, and which of them a rewritten one is meant to replace.

Knows syntax trees. A definition is told apart by its name, the classes around it, its decorators and its parameters;
what can't be told is not guessed.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef
Node = Function | ast.ClassDef


class Definition(NamedTuple):
    """A function or class of a file. Lines are 1-based, both included."""

    path: str
    qualname: tuple[str, ...]
    """Its name behind those of the classes and functions around it."""
    first: int
    """Of its first decorator, or of its `def`."""
    head: int
    """Of its `def` or `class`."""
    last: int
    node: Node

    @property
    def where(self) -> str:
        return f"{self.path}, line {self.head}"


def definitions(tree: ast.AST, path: str, around: tuple[str, ...] = ()) -> Iterator[Definition]:
    """Every function and class below `tree`, outermost first."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, Node):
            qualname = (*around, child.name)
            yield Definition(path, qualname, first_line(child), child.lineno, child.end_lineno or child.lineno, child)
            yield from definitions(child, path, qualname)
        else:
            yield from definitions(child, path, around)


def meant(new: Node, around: Sequence[str], known: Sequence[Definition]) -> list[Definition]:
    """Those of `known` that a definition may be meant for: one where it can be told, several where it can't.

    `around` are the classes that it was written in. More than the name counts only where names alone leave several.
    """
    same_kind = [one for one in known if isinstance(one.node, ast.ClassDef) == isinstance(new, ast.ClassDef)]
    qualname = (*around, new.name)
    left = [one for one in same_kind if one.qualname[-len(qualname) :] == qualname]
    decorated: Callable[[Definition], bool] = lambda one: _decorators(one.node) == _decorators(new)  # noqa: E731
    checks: list[Callable[[Definition], bool]] = [
        lambda one: not around or one.qualname == qualname,
        # A getter and its setter differ in parameters only by chance; but models leave decorators out.
        *([decorated] if new.decorator_list else []),
        lambda one: _parameters(one.node) == _parameters(new),
        decorated,
    ]
    for fits in checks:
        if len(left) > 1:
            left = [one for one in left if fits(one)] or left
    return left


def first_line(node: ast.stmt) -> int:
    """The line (1-based) that a statement begins at, its decorators included."""
    decorators = node.decorator_list if isinstance(node, Node) else []
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def same_code(one: ast.AST, other: ast.AST) -> bool:
    """Whether two syntax trees say the same, comments and layout aside."""
    return ast.dump(one) == ast.dump(other)


def _decorators(node: Node) -> list[str]:
    return [ast.dump(decorator) for decorator in node.decorator_list]


def _parameters(node: Node) -> str:
    return "" if isinstance(node, ast.ClassDef) else ast.dump(node.args)
