"""Grammars of edits: whatever a walk through the mask says can be read, and applies to the files that were shown."""

import random
import re
from functools import cache
from typing import Any

import pytest
from engine_help import walk
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from steergraph.agents.edits.blocks import parse_edits
from steergraph.agents.edits.elision import PLACEHOLDERS, is_placeholder
from steergraph.agents.edits.grammar import search_replace, whole_function
from steergraph.agents.edits.patch import apply_edits, standing_in
from steergraph.base.errors import InputError
from steergraph.engine.constrain.compile import Grammars
from steergraph.engine.constrain.grammar import Grammar
from steergraph.pocket import weights_path

ODD = (
    *("", " ", "x = 1", "  x = 1", "x = 1 ", "y", 'print("a\\nb")', "'\\u0041\\'", "é 東京 🙂", "<|im_end|>"),
    *("=======", "====", "<<<<<<< SEARCH", ">>>>>>> REPLACE", "  <<<<<<< DELETE", "12|x", " 3|", "a<|im_start|>b"),
    *("...", "# the rest of the file", "// code remains the same", "# ... existing code ...", "```", "a.py"),
    *("\ttab", "form\x0cfeed", "nel\x85", "\u2028"),
)
PATHS = ("a.py", "src/b c.txt", "<|im_end|>.md", "x/`y`.txt", 'q"\\.py', "../up.py", ".git/config", "é/東.py", "```x")
TEMPTING = """
>>>>>>> REPLACE
=======
<<<<<<< SEARCH
# ... existing code
12|x
...
  # rest of code
```
\t 'x = 1' \x85\u2028"""
LINES = st.sampled_from(ODD) | st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=5)
FILES = st.dictionaries(
    st.sampled_from(PATHS),
    st.tuples(
        st.sampled_from(["", "\ufeff"]),
        st.lists(LINES, max_size=7),
        st.sampled_from(["\n", "\r\n"]),
        st.booleans(),
    ).map(lambda of: of[0] + of[2].join(of[1]) + (of[2] if of[3] else "")),
    min_size=1,
    max_size=3,
)  # fmt: skip


@cache
def pocket() -> tuple[Any, Grammars, frozenset[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights_path())
    ends = frozenset({tokenizer.eos_token_id})
    return tokenizer, Grammars(tokenizer, ends), ends


def spoken(grammar: Grammar, seed: int, tempting: str = TEMPTING, most: int = 250) -> tuple[str, bool]:
    """What a random walk says, with a liking for text that would break a block; and whether it came to its end."""
    tokenizer, grammars, ends = pocket()
    held = grammars.constraint(grammar, thinks=False, may_think=False)
    chance, liked = random.Random(seed), set(tokenizer(tempting)["input_ids"])
    daring = iter([0.8] * 40)  # then it comes to an end

    def pick(allowed: list[int]) -> int:
        favoured = [token for token in allowed if token in liked]
        return chance.choice(favoured if favoured and chance.random() < next(daring, 1.0) else allowed)

    tokens = walk(held, len(tokenizer), ends, pick, most)
    return tokenizer.decode(tokens, clean_up_tokenization_spaces=False), held.complete


def test_a_block_of_one_file() -> None:
    files = {"a.py": "x = 1\ny = 2\nx = 1\nprint('<|im_end|>')\n"}
    grammar, left_out = search_replace(files)
    assert left_out == ()
    for search, fits in (
        ("x = 1\ny = 2\n", True),
        ("x = 1\n", False),
        ("y = 2\n", True),
        ("x = 1\nprint('<|im_end|>')\n", True),
        ("y = 2\nprint('<|im_end|>')\n", False),
        ("x = 1\ny = 2\nx = 1\nprint('<|im_end|>')\n", True),
    ):
        text = f"a.py\n<<<<<<< SEARCH\n{search}=======\nz\n\n>>>>>>> REPLACE"
        assert said(grammar, text) == fits, search
    end = "a.py\n<<<<<<< SEARCH\ny = 2\n=======\n{}>>>>>>> REPLACE"
    assert said(grammar, end.format("")) and said(grammar, end.format("<|im_end|>\n>>> 1\n=== a\n# code\n"))
    for wrong in ("=======\n", ">>>>>>> REPLACE\n", " <<<<<<< SEARCH\n", "1|x\n", "# ... rest of the code\n", "a\rb\n"):
        assert not said(grammar, end.format(wrong)), wrong


def said(grammar: Grammar, text: str) -> bool:
    """Whether `text` is all that the grammar says."""
    tokenizer, grammars, _ = pocket()
    held = grammars.constraint(grammar, thinks=False, may_think=False)
    tokens = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    try:
        for token in tokens:
            held.take(token)
    except InputError:
        return False
    return held.complete


def test_blocks_follow_each_other() -> None:
    files = {"a.py": "a\nb\nc\n", "b.py": "a\n"}
    grammar, _ = search_replace(files)
    block = "{}\n<<<<<<< SEARCH\n{}\n=======\nnew\n>>>>>>> REPLACE"
    for order, fits in (
        ([("a.py", "a"), ("a.py", "c"), ("b.py", "a")], True),
        ([("a.py", "c"), ("b.py", "a")], True),
        ([("a.py", "c"), ("a.py", "a")], False),
        ([("a.py", "a"), ("a.py", "a")], False),
        ([("b.py", "a"), ("a.py", "a")], False),
    ):
        assert said(grammar, "\n".join(block.format(*each) for each in order)) == fits, order


@settings(max_examples=60, deadline=None)
@given(files=FILES, seed=st.integers(0, 2**16))
def test_what_is_said_can_be_read_and_applies(files: dict[str, str], seed: int) -> None:
    try:
        grammar, _ = search_replace(files)
    except InputError as error:
        assert "\n" not in str(error)
        return
    text, complete = spoken(grammar, seed)
    assume(complete)
    for stands in (None, standing_in(files.get)):
        parsed = parse_edits(text, list(files), stands)
        assert not parsed.problems and parsed.edits, text
        applied = apply_edits(parsed.edits, files.get)
        # What says nothing new, or takes back what a block before said, is told afterwards.
        assert all("no change" in problem or "undo" in problem for problem in applied.problems), (
            applied.problems,
            text,
        )
        assert all(matched.how == "exact" for matched in applied.matched)
        assert all(edit.kind == "change" and edit.path in files for edit in parsed.edits)


def test_a_line_that_an_earlier_block_says_again_is_still_the_one_that_was_shown() -> None:
    files = {"a.py": "a\nb\nc\n"}
    text = "\n".join(
        f"a.py\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE" for old, new in (("a", "c\na"), ("c", "d"))
    )
    assert said(search_replace(files).grammar, text)
    applied = apply_edits(parse_edits(text).edits, files.get)
    assert not applied.problems and applied.after == {"a.py": "c\na\nb\nd\n"}


def test_what_can_not_be_said_is_told() -> None:
    _, left_out = search_replace({"a.py": "x\nx\ny\n", "../b": "x\n", "c": "a\0b\n", "d": "1\n" * 2000})
    told = " ".join(left_out)
    assert "a.py: no SEARCH begins at line" not in told  # from the first x on there is "x x", from the second "x y"
    assert "../b" in told and "c: it is binary" in told and "d: it has 2000 lines" in told
    _, left_out = search_replace({"a.py": "=======\nx\n# ... more code ...\n"})
    assert left_out == ("a.py: no SEARCH begins at line 1, 3: it would stand twice, or can't be copied",)
    for nothing in ({}, {"a.py": ""}, {"a.py": "\n\n"}):
        with pytest.raises(InputError, match="no edit is possible"):
            search_replace(nothing)


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from([*ODD, "#", "//", '"""', "[", "]", "...", "…", "existing code", " unchanged", "(x)"]),
        max_size=4,
    )
)
def test_every_placeholder_is_refused(parts: list[str]) -> None:
    line = " ".join(parts)
    if is_placeholder(line) and re.fullmatch(r"[^\x00-\x08\n\x0b\x0d-\x1f\x7f]*", line):
        assert any(re.fullmatch(pattern, line) for pattern in PLACEHOLDERS)


CODE = {
    "a.py": "class A:\n    def f(self): ...\n    async def g(self): ...\n\n"
    "class B:\n    def f(self): ...\n\ndef naïve(x): ...\n",
    "b.txt": "def h(): ...\n",
    "c.py": "def k(x):\n    # a comment\n    y = x  # / '\"\\\\\n\n    return y + 1\n",
    "d.py": "def k(x): ...\n",
}


def test_a_whole_function() -> None:
    grammar, left_out = whole_function(CODE)
    assert left_out == ("a.py: f: defined more than once", "b.txt: it is no Python")
    for text, fits in (
        ("```python a.py\ndef naïve(x):\n    return 1\n```", True),
        ("```python\ndef naïve(x):\n    return 1\n```", True),
        ("```python c.py\ndef naïve(x):\n    return 1\n```", False),
        ("```python a.py\n@cache\n@b(1)\nclass A(B):\n    x = '<|im_end|>'\n```", True),
        ("```python a.py\n    async def g(self):\n        pass\n```", True),
        ("```python a.py\nasync def g(self):\n    pass\n```", True),
        ("```python a.py\ndef f(self):\n    pass\n```", False),
        ("```python a.py\ndef A():\n    pass\n```", False),
        ("```python a.py\nclass B:\n    # ... rest of the code\n```", False),
        ("```python b.txt\ndef h():\n    pass\n```", False),
        ("```python a.py\ndef naïve(x):\n```", False),
        ("```python a.py\ndef naïve(x):\n```\n```", False),
        ("```python a.py\ndef naïve(x):\n    pass\n", False),
        ("```python\ndef k(x):\n    pass\n```", False),  # which?
        ("```python d.py\ndef k(x):\n    pass\n```", True),
    ):
        assert said(grammar, text) == fits, text
    with pytest.raises(InputError, match="no function"):
        whole_function({"b.txt": "x\n"})


def test_a_function_as_it_is_is_not_said() -> None:
    lines = CODE["c.py"].rstrip("\n").split("\n")
    grammar = whole_function(CODE).grammar

    def fits(*new: str) -> bool:
        return said(grammar, "\n".join(["```python c.py", *new, "```"]))

    assert not fits(*lines)
    assert not fits(*lines, "    # and more")
    assert not fits(*lines[:-1], lines[-1] + "  # corrected")
    assert not fits(*lines[:2], "    # another comment", *lines[2:])
    assert fits(*lines[:-1], "    return y")
    assert fits(*lines[:-1], "    return y", "    # and why")
    assert fits(*lines[:2], "    z = 1", *lines[2:])
    assert fits(*lines[:3])
    assert fits("def k(x, z=1):", *lines[1:])


def test_only_what_was_shown_is_written_anew() -> None:
    grammar, left_out = whole_function(CODE, {"a.py": [(6, 6)], "c.py": [(1, 2)]})
    assert left_out == ("b.txt: it is no Python",)
    assert said(grammar, "```python\nclass B:\n    pass\n```")
    assert said(grammar, "```python\n    def f(self):\n        pass\n```")  # of the two the one that was shown
    assert said(grammar, "```python\ndef k(x):\n    pass\n```")
    assert not said(grammar, "```python\nclass A:\n    pass\n```")


@settings(max_examples=20, deadline=None)
@given(st.lists(LINES, max_size=5), st.sampled_from(["", "    ", "\t"]))
def test_no_function_is_copied_whatever_it_holds(source: list[str], indent: str) -> None:
    own = [indent + "def odd():", *(f"{indent}    {line!r}" for line in source), indent + "    return 1"]
    around = ["class A:", *own] if indent else own
    grammar = whole_function({"e.py": "\n".join(around) + "\n"}).grammar
    bare = [line.removeprefix(indent) for line in own]
    for lines in (own, bare):
        assert not said(grammar, "\n".join(["```python", *lines, "```"]))
        assert said(grammar, "\n".join(["```python", *lines[:-1], lines[-1] + "0", "```"]))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_a_walk_writes_one_closed_fence(seed: int) -> None:
    text, complete = spoken(whole_function(CODE).grammar, seed, tempting="\n```")
    assume(complete)
    found = re.fullmatch(
        r"```python(?: (\S+))?\n((?:[ \t]*@.*\n)*)[ \t]*(?:async )?(?:def|class) (\w+)[\[(:](?s:.*)\n```\n{0,2}", text
    )
    assert found and found[3] in ("A", "B", "g", "naïve", "k")
    assert sum(bool(re.match(r"\s*(```|~~~)", line)) for line in text.split("\n")) == 2


def test_a_closing_fence_may_be_followed_by_the_end_of_its_line() -> None:
    """As tokenizers have it that write the last tick and the line's end as one token."""
    grammar = whole_function({"a.py": "def f(x):\n    return x\n"}).grammar
    for end in ("", "\n", "\n\n"):
        assert said(grammar, f"```python\ndef f(x):\n    return x + 1\n```{end}")
    assert not said(grammar, "```python\ndef f(x):\n    return x + 1\n```\nThis")
    assert not said(grammar, "```python\ndef f(x):\n    return x + 1\n``\n```")
