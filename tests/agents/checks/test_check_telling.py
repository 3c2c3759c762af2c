"""What a failing test says first: real output of unittest, pytest, doctest and plain Python, in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.agents.checks.telling import telling_line

STOCK = """
def low(x):
    \"\"\"Low.

    >>> low(1)
    2
    \"\"\"
    return deeper(x)


def deeper(x):
    return x + 2
"""
TESTS = """
import unittest
from pk.stock import low


class Low(unittest.TestCase):
    def test_equal(self):
        print("Traceback (most recent call last): said by the test itself")
        self.assertEqual(low(2), 3)

    def test_lists(self):
        self.assertEqual([1, 2], [1, low(2)])

    def test_chained(self):
        try:
            low("s")
        except TypeError as error:
            raise ValueError("bad s") from error


def test_plain():
    assert low(1) == 2
"""
PYTEST = "python -m pytest -q -p no:cacheprovider"
SAID = {
    "python -m unittest test_it.Low.test_equal": "AssertionError: 4 != 3 at test_it.py:9 in test_equal",
    "python -m unittest test_it.Low.test_lists": "AssertionError: "
    "Lists differ: [1, 2] != [1, 4] at test_it.py:12 in test_lists",
    "python -m unittest test_it.Low.test_chained": "ValueError: bad s at test_it.py:18 in test_chained",
    f"{PYTEST} test_it.py::Low::test_equal": "AssertionError: 4 != 3 at test_it.py:9",
    f"{PYTEST} --tb=short test_it.py::Low::test_equal": "AssertionError: 4 != 3 at test_it.py:9 in test_equal",
    f"{PYTEST} --tb=native test_it.py::Low::test_equal": "AssertionError: 4 != 3 at test_it.py:9 in test_equal",
    f"{PYTEST} test_it.py::Low::test_chained": "ValueError: bad s at test_it.py:18",
    f"{PYTEST} test_it.py::test_plain": "assert 3 == 2 / +  where 3 = low(1) at test_it.py:22",
    "python -m doctest pk/stock.py": "low(1) gives 3, not 2 at pk/stock.py:5 in stock.low",
    f"{PYTEST} --doctest-modules pk/stock.py": "low(1) gives 3, not 2 at pk/stock.py:5",
    "python -c 'import pk.stock; pk.stock.low(None)'": "TypeError: unsupported operand type(s) for +: 'NoneType' and "
    "'int' at pk/stock.py:12 in deeper, pk/stock.py:8 in low",
    "echo one; echo two": "two",
    "true": "",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("telling").resolve()
    (root / "pk").mkdir()
    (root / "pk" / "__init__.py").touch()
    (root / "pk" / "stock.py").write_text(STOCK)
    (root / "test_it.py").write_text(TESTS)
    return root


@pytest.mark.parametrize("command", SAID)
def test_the_exceptions_line_and_the_frames_in_the_repository(root: Path, command: str) -> None:
    own = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, shell=True, cwd=root, capture_output=True, text=True, env=own)
    assert telling_line(done.stdout + done.stderr, str(root)) == SAID[command]


_PIECES = (
    *("Traceback (most recent call last):", '  File "a.py", line 1, in f', "    x()", "ValueError: x", "E   no", ""),
    *("a.py:3: in f", "Failed example:", "Expected:", "Got:", "    1", "a.py:3: DocTestFailure", "FAIL: test_x (m)"),
    *("___ test ___", "The above exception was the direct cause of the following exception:", "004     >>> f()"),
)


@given(st.lists(st.sampled_from(_PIECES) | st.text(max_size=20), max_size=30).map("\n".join))
def test_any_output_gives_one_line(output: str) -> None:
    assert "\n" not in telling_line(output, "/workspace")


def test_an_exception_group_and_another_language() -> None:
    group = """E
======================================================================
ERROR: test_a (test_eg.T.test_a)
----------------------------------------------------------------------
  + Exception Group Traceback (most recent call last):
  |   File "/w/test_eg.py", line 5, in test_a
  |     raise ExceptionGroup("many", [ValueError("one"), TypeError("two")])
  | ExceptionGroup: many (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: one
    +---------------- 2 ----------------
    | TypeError: two
    +------------------------------------

FAILED (errors=1)
"""
    assert telling_line(group, "/w") == "ExceptionGroup: many (2 sub-exceptions) at test_eg.py:5 in test_a"
    node = "[eval]:1\nthrow new Error('x 4 != 3')\n^\n\nError: x 4 != 3\n    at [eval]:1:7\n\nNode.js v20.20.2\n"
    assert telling_line(node, "/w") == "Error: x 4 != 3"
