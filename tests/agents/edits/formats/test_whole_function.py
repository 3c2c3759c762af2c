"""Whole functions of an answer: which one each is meant for, how it is laid out there, and what is refused."""

import ast
import inspect
import textwrap
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import steergraph.agents.edits.matching
import steergraph.agents.edits.patch
import steergraph.base.text
from steergraph.agents.edits.formats import edit_format
from steergraph.agents.edits.formats.definitions import definitions
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.patch import apply_edits

SOURCE = '''"""A module."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    def kind(x):
        return "types"
else:
    def kind(x, *more):
        return "run"


def total(prices):
    return prices[0] + sum(prices[1:])


class Basket:
    """Things."""

    @property
    def name(self):
        return self._name

    @name.setter
    def name(self, value):
        self._name = value

    @staticmethod
    def total(prices, tax=0):
        text = """one
  two
"""
        return sum(prices) + tax, text

    async def fetch(self):
        async def inner():
            return 1
        return await inner()
'''


def after(answer: str, source: str = SOURCE, seen: Sequence[tuple[int, int]] = ((1, 10_000),)) -> str:
    """The file with an answer's functions put in. Fails where there is a problem."""
    text, problems = said(answer, source, seen)
    assert not problems, problems
    return text


def said(
    answer: str, source: str = SOURCE, seen: Sequence[tuple[int, int]] = ((1, 10_000),)
) -> tuple[str, tuple[str, ...]]:
    def read(path: str) -> str | None:
        return {"shop/basket.py": source, "shop/other.py": "def total(x):\n    return x\n"}.get(path)

    shown = Shown(["shop/basket.py", "shop/other.py"], {"shop/basket.py": seen}, read)
    parsed = edit_format("whole_function").parse(answer, shown)
    applied = apply_edits(parsed.edits, read)
    return applied.after.get("shop/basket.py") or source, (*parsed.problems, *applied.problems)


def fenced(code: str) -> str:
    return f"Here it is:\n\n```python\n{textwrap.dedent(code).strip()}\n```\nThat is all."


def test_a_function_of_the_module_and_not_the_method_of_its_name() -> None:
    new = after(fenced("def total(prices):\n    return sum(prices)"))
    assert new == SOURCE.replace("return prices[0] + sum(prices[1:])", "return sum(prices)")


@pytest.mark.parametrize(
    "fence",
    [
        "```python\n",
        "```\n",
        "```python\nshop/basket.py\n",
        "```\nshop/basket.py:\n",
        "```py shop/basket.py\n",
        "~~~\n",
        "",
    ],
)
def test_any_fence_and_none(fence: str) -> None:
    code = "def total(prices):\n    return sum(prices)\n"
    answer = f"{fence}{code}{fence[:3]}" if fence else code
    assert "return sum(prices)\n\n\nclass" in after(answer)


def test_a_method_inside_its_class_keeps_decorators_and_strings() -> None:
    body = '        text = """one\n  two\n"""\n        return sum(prices) * tax, text'
    code = f"class Basket:\n    def total(prices, tax=0):\n{body}"
    assert after(fenced(code)) == SOURCE.replace("return sum(prices) + tax", "return sum(prices) * tax")


def test_a_bare_method_told_by_its_parameters() -> None:
    code = 'def total(prices, tax=0):\n    text = """one\n  two\n"""\n    return sum(prices) - tax, text'
    assert after(fenced(code)) == SOURCE.replace("return sum(prices) + tax", "return sum(prices) - tax")


def test_a_setter_by_its_decorator_or_its_parameters() -> None:
    expected = SOURCE.replace("self._name = value", "self._name = str(value)")
    assert after(fenced("@name.setter\ndef name(self, value):\n    self._name = str(value)")) == expected
    assert after(fenced("def name(self, value):\n    self._name = str(value)")) == expected


def test_two_that_fit_are_refused_with_their_places() -> None:
    source = "class A:\n    def f(self):\n        return 1\n\n\nclass B:\n    def f(self):\n        return 1\n"
    text, problems = said(fenced("def f(self):\n    return 2"), source)
    assert text == source
    assert "line 2" in problems[0] and "line 7" in problems[0]
    assert after(fenced("class B:\n    def f(self):\n        return 2"), source).endswith("return 2\n")
    # What was shown decides before anything else does.
    assert after(fenced("def f(self):\n    return 2"), source, [(6, 8)]).endswith("return 2\n")


def test_a_conditional_definition_by_its_parameters() -> None:
    assert after(fenced("def kind(x, *more):\n    return 'other'")).count("'other'") == 1


def test_nested_and_async() -> None:
    code = "async def fetch(self):\n    async def inner():\n        return 2\n    return await inner()"
    assert after(fenced(code)) == SOURCE.replace("return 1", "return 2")
    assert after(fenced("async def inner():\n    return 2")) == SOURCE.replace("return 1", "return 2")


def test_imports_helpers_and_constants_come_along_and_calls_do_not() -> None:
    code = """
    from typing import TYPE_CHECKING
    import math
    LIMIT = 3

    def rounded(x):
        return math.floor(x)

    def total(prices):
        return rounded(sum(prices[:LIMIT]))

    print(total([1]))
    """
    new = after(fenced(code))
    tree = ast.parse(new)
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert names == ["rounded", "total", "Basket"]
    assert new.startswith('"""A module."""\n\nimport math\nfrom typing')
    assert "LIMIT = 3" in new and "print" not in new


def test_tabs_crlf_and_two_blanks() -> None:
    tabs = "class A:\n\tdef f(self, x):\n\t\tif x:\n\t\t\treturn 1\n\t\treturn 2\n"
    code = "def f(self, x):\n    if x:\n        return 3\n    return 2"
    assert after(fenced(code), tabs) == tabs.replace("return 1", "return 3")
    crlf = tabs.replace("\n", "\r\n")
    assert after(fenced(code), crlf) == crlf.replace("return 1", "return 3")
    two = tabs.replace("\t", "  ")
    assert after(fenced(code), two) == two.replace("return 1", "return 3")


def test_only_the_head_was_dedented() -> None:
    code = "def fetch(self):\n        return 5"
    assert "    def fetch(self):\n        return 5\n" in after(fenced(code))


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("def total(prices):\n    # ... rest of the code ...\n    return 3", "leaves code out"),
        ("def total(prices):\n    return prices[0] + sum(prices[1:])", "nothing changes"),
        ("def nothing(x):\n    return 3", "no function called nothing"),
        ("def total(prices:\n    return 3", "can't be read"),
        ("x = 3", "no function"),
    ],
)
def test_what_is_refused_is_said(code: str, word: str) -> None:
    text, problems = said(f"```\n{code}\n```")
    assert text == SOURCE
    assert any(word in problem for problem in problems), problems


def test_an_answer_that_its_limit_cut_is_refused() -> None:
    text, problems = said("```python\ndef total(prices):\n    return sum(")
    assert text == SOURCE and "ends inside the code" in problems[0]


def test_edit_blocks_are_read_in_this_format_too() -> None:
    block = (
        "shop/basket.py\n<<<<<<< SEARCH\n    return prices[0] + sum(prices[1:])\n=======\n    return 0\n>>>>>>> REPLACE"
    )
    assert after(block) == SOURCE.replace("return prices[0] + sum(prices[1:])", "return 0")


MODULES = [steergraph.agents.edits.patch, steergraph.agents.edits.matching, steergraph.base.text]


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(MODULES), st.data())
def test_no_line_outside_the_function_changes(module: object, data: st.DataObject) -> None:
    """Functions of real modules, one statement added to each: all other lines stay, and the new file parses."""
    source = inspect.getsource(module)  # type: ignore[arg-type]
    known = [one for one in definitions(ast.parse(source), "x") if not isinstance(one.node, ast.ClassDef)]
    one = data.draw(st.sampled_from(known))
    lines = source.split("\n")
    text = textwrap.dedent("\n".join(lines[one.first - 1 : one.last])) + "\n    changed = 1"
    new, problems = said(f"```python\n{text}\n```", source, [(one.first, one.last)])
    if problems:
        assert "may be any" in problems[0] or "can't be read" in problems[0]
        return
    ast.parse(new)
    changed = new.split("\n")
    added = len(changed) - len(lines)
    assert changed[: one.first - 1] == lines[: one.first - 1]
    assert changed[one.last + added :] == lines[one.last :]
