"""Defects that nobody wrote down: every small change that can be made to a right function.

Knows Python's syntax tree. Makes none of the held-out defects: slices, defaults that are shared, except clauses, early
returns and upper or lower case stay as they are. Whether a change changes what the code does is for others to find out.
"""

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass

_SYMPTOMS = {
    "comparison": ("It treats the boundary wrong.", "It takes the wrong ones.", "The comparison is the wrong one."),
    "arithmetic": ("It calculates wrong.", "The values are combined the wrong way.", "The number is wrong."),
    "sign": ("It goes in the wrong direction.", "Plus and minus are mixed up.", "The sign is wrong."),
    "logic": ("The condition is the wrong one.", "It does the opposite.", "It decides wrong."),
    "key": ("It looks at the wrong field.", "Two fields are mixed up.", "The wrong one of its values is used."),
    "constant": ("A value in it is wrong.", "The fixed value is not the right one."),
    "off_by_one": ("It is one off.", "One too many or too few.", "The result is off by one."),
    "variable": ("It uses the wrong value.", "Something else than expected is used.", "Two names are mixed up."),
    "swapped": ("Two things are in the wrong order.", "The order of the values is wrong."),
    "return": ("It gives None.", "Nothing comes back.", "The result is None."),
    "update": ("A step is missing.", "Something is not done.", "It forgets to change something."),
    "guard": ("A special case is not looked after.", "One case is not handled."),
    "accumulator": ("It does not add up.", "Only the last one counts."),
    "strip": ("Spaces are not taken off.", "A text with a space before it goes wrong."),
    "ordering": ("The order is wrong.", "They are not in order."),
    "conversion": ("The type is wrong.", "A value is not converted."),
}
_COMPARE = {"<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<="), "==": ("!=",), "!=": ("==",)}
_COMPARE |= {"in": ("not in",), "not in": ("in",), "is not": ("is",), "is": ("is not",)}
_BINARY = {"+": ("-",), "-": ("+",), "*": ("+", "//"), "/": ("*", "//"), "//": ("*", "%"), "%": ("//",), "**": ("*",)}
_OPPOSITES = {
    "max": ("comparison", "min"),
    "min": ("comparison", "max"),
    "any": ("logic", "all"),
    "all": ("logic", "any"),
}


@dataclass(frozen=True)
class Change:
    family: str
    start: int
    end: int
    """Offsets in the source text."""
    wrong: str


def changes(code: str) -> list[Change]:
    """Every small change at every place of `code`, a function or class. Raises SyntaxError where it does not parse."""
    tree = ast.parse(code)
    if not code.isascii():
        return []  # the tree counts bytes
    starts = [0]
    for line in code.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    fields = _fields(tree)
    found: list[Change] = []
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        places = _Places(code, starts, _names(function), fields)
        for statement in function.body:
            found += places.of(statement)
        found += _lines(code, starts, function)
    return found


def symptom(rng: random.Random, family: str) -> str:
    """What a user who sees no more than that it is wrong would say."""
    return rng.choice(_SYMPTOMS[family])


def _names(function: ast.FunctionDef) -> list[str]:
    names = [argument.arg for argument in function.args.args if argument.arg != "self"]
    names += [n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return list(dict.fromkeys(names))


def _fields(tree: ast.AST) -> list[str]:
    """Attributes and keys, but for methods that are called."""
    called = {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    nodes = list(ast.walk(tree))
    names = [node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr not in called]
    keys = [
        node.slice.value for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
    ]
    return list(dict.fromkeys([*names, *(key for key in keys if isinstance(key, str))]))


class _Places:
    def __init__(self, code: str, starts: list[int], names: list[str], fields: list[str]) -> None:
        self.code, self.starts, self.names, self.fields = code, starts, names, fields

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr) -> str:
        start, end = self.span(node)
        return self.code[start:end]

    def of(self, node: ast.AST) -> Iterator[Change]:
        if isinstance(node, (ast.Slice, ast.ExceptHandler, ast.JoinedStr)):
            return
        yield from self.at(node)
        for child in ast.iter_child_nodes(node):
            yield from self.of(child)

    def between(
        self, left: ast.expr, right: ast.expr, table: dict[str, tuple[str, ...]]
    ) -> Iterator[tuple[int, str, str]]:
        low, high = self.span(left)[1], self.span(right)[0]
        gap = self.code[low:high]
        operator = gap.strip(" ()\n")
        for wrong in table.get(operator, ()):
            yield low + gap.index(operator), operator, wrong

    def at(self, node: ast.AST) -> Iterator[Change]:
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            for start, old, wrong in self.between(node.left, node.comparators[0], _COMPARE):
                yield Change("comparison", start, start + len(old), wrong)
        elif isinstance(node, ast.BinOp):
            for start, old, wrong in self.between(node.left, node.right, _BINARY):
                yield Change("sign" if old in "+-" else "arithmetic", start, start + len(old), wrong)
        elif isinstance(node, ast.BoolOp):
            old = "and" if isinstance(node.op, ast.And) else "or"
            for start, _, wrong in self.between(node.values[0], node.values[1], {"and": ("or",), "or": ("and",)}):
                yield Change("logic", start, start + len(old), wrong)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            start, _ = self.span(node)
            yield Change("logic", start, self.span(node.operand)[0], "")
        elif isinstance(node, ast.Constant):
            yield from self.constant(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in self.names:
            start, end = self.span(node)
            for other in self.names:
                if other != node.id:
                    yield Change("variable", start, end, other)
        elif isinstance(node, ast.Call):
            yield from self.call(node)
        elif isinstance(node, (ast.If, ast.IfExp)) and isinstance(node.test, (ast.Name, ast.Attribute, ast.Call)):
            start, _ = self.span(node.test)
            yield Change("logic", start, start, "not ")
        elif isinstance(node, ast.AugAssign):
            start, end = self.span(node.target)[1], self.span(node.value)[0]
            yield Change("accumulator", start, end, " = ")
            if opposite := {"+=": " -= ", "-=": " += "}.get(self.code[start:end].strip()):
                yield Change("sign", start, end, opposite)
        elif isinstance(node, ast.Attribute) and node.attr in self.fields:
            end = self.span(node)[1]
            yield from (Change("key", end - len(node.attr), end, f) for f in self.fields if f != node.attr)
        elif (
            isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in self.fields
        ):
            start, end = self.span(node.slice)
            yield from (Change("key", start, end, f'"{f}"') for f in self.fields if f != node.slice.value)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.ctx, ast.Load):
            start, end = self.span(node.elts[0])[0], self.span(node.elts[1])[1]
            yield Change("swapped", start, end, f"{self.text(node.elts[1])}, {self.text(node.elts[0])}")

    def constant(self, node: ast.Constant) -> Iterator[Change]:
        start, end = self.span(node)
        if isinstance(node.value, bool):
            yield Change("constant", start, end, str(not node.value))
        elif isinstance(node.value, int):
            for wrong in (node.value + 1, node.value - 1):
                yield Change("off_by_one" if node.value in (0, 1) else "constant", start, end, str(wrong))

    def call(self, node: ast.Call) -> Iterator[Change]:
        start, end = self.span(node)
        if len(node.args) == 2 and not node.keywords:
            low, high = self.span(node.args[0])[0], self.span(node.args[1])[1]
            yield Change("swapped", low, high, f"{self.text(node.args[1])}, {self.text(node.args[0])}")
        if isinstance(node.func, ast.Name):
            if node.func.id in _OPPOSITES:
                family, wrong = _OPPOSITES[node.func.id]
                yield Change(family, start, self.span(node.func)[1], wrong)
            if node.func.id in ("sorted", "reversed", "int", "str", "set", "list") and len(node.args) == 1:
                family = "ordering" if node.func.id in ("sorted", "reversed") else "conversion"
                yield Change(family, start, end, self.text(node.args[0]))
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "strip":
            yield Change("strip", self.span(node.func.value)[1], end, "")


def _lines(code: str, starts: list[int], function: ast.FunctionDef) -> Iterator[Change]:
    """Whole statements that are missing, and returns that return nothing."""
    for parent in ast.walk(function):
        body = getattr(parent, "body", None)
        if not isinstance(body, list):
            continue
        for at, node in enumerate(body):
            if not isinstance(node, ast.stmt) or node.end_lineno is None:
                continue
            start, end = starts[node.lineno - 1], starts[node.end_lineno]
            guard = (
                isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], (ast.Return, ast.Continue))
            )
            if guard and len(body) > 1:
                yield Change("guard", start, end, "")
            elif isinstance(node, (ast.AugAssign, ast.Expr)) and len(body) > 1 and not _is_text(node):
                yield Change("update", start, end, "")
            if isinstance(node, ast.Return) and node.value is not None and parent is function and at == len(body) - 1:
                inside, value = start + node.col_offset, starts[node.value.lineno - 1] + node.value.col_offset
                yield Change("return", inside, end - 1, code[value : end - 1])


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
