"""Where a repair looks that is stuck."""

from steergraph.agents.pointing import next_pointer

CODE = """### a.py
3|def total(items):
4|    \"\"\"Add up.
5|
6|    Not code.
7|    \"\"\"
8|    result = 0
9|    for item in items:
10|        result += 2
11|    return result
12|
13|def other():
14|    return 5"""
PASSAGES = [{"path": "b.py", "text": "### b.py\n1|import os\n2|LIMIT = 3"}, {"path": "a.py", "text": CODE}]


def attempt(line: str, pointer: str = "") -> dict[str, object]:
    edit = f"a.py\n<<<<<<< SEARCH\n{line}\n=======\n    pass\n>>>>>>> REPLACE"
    return {"text": edit, "prompt": [{"role": "user", "content": f"Notes:\n{pointer}\n"}]}


def numbers(steps: list[dict[str, object]], problem: str, times: int) -> list[int]:
    """The line numbers of the next pointers, each followed by an attempt that edits something unknown."""
    found = []
    for _ in range(times):
        pointer = next_pointer(PASSAGES, steps, problem)
        found.append(int(pointer.split()[3]))
        steps = [*steps, attempt("unknown", pointer)]
    return found


def test_lines_of_the_function_that_the_issue_names_come_first_and_each_once() -> None:
    assert numbers([], "total() is wrong", 7) == [8, 9, 10, 11, 2, 14, 8]
    assert numbers([], "something is wrong", 3) == [2, 8, 9]


def test_a_line_that_was_edited_has_been_tried() -> None:
    steps = [attempt("    result = 0"), attempt("    for item in items:"), attempt("    result = 0")]
    assert numbers(steps, "total", 2) == [10, 11]
    assert next_pointer(PASSAGES, steps, "total") == "Look at line 10 of a.py: `result += 2`"


def test_without_code_there_is_nothing_to_point_at() -> None:
    assert next_pointer([], [], "total") == ""
    assert next_pointer([{"path": "a.py", "text": "### a.py\n1|import os\n2|"}], [attempt("x")], "") == ""
