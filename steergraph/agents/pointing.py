"""Where an attempt looks next, once one before it has only repeated another.

A small model goes back to the line that it takes for the wrong one, whatever the checker says. Pointed at a line it
edits that one. So a stuck repair goes through the lines that it was shown: those that the fewest attempts have tried,
and of these first the ones in functions that the issue names. Knows passages and earlier steps, not what is wrong.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from steergraph.agents.edits import parse_edits
from steergraph.configs.prompts import point_at

_NUMBERED = re.compile(r"(\d+)\|(.*)")
_FUNCTION = re.compile(r"(\s*)(?:async\s+)?def\s+(\w+)")
_NO_CODE = re.compile(r"\s*(def|class|async def|import|from|global|nonlocal|else:|try:|finally:|[@#\"']|[^\w]*$)")
_QUOTES = ('"""', "'''")


def next_pointer(passages: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]], problem: str) -> str:
    """A note that points at the line to look at next; "" where no line of code was shown.

    `passages` as retrieval packed them, best first; `steps` the earlier attempts of the specialist that repairs.
    """
    words = set(re.findall(r"\w+", problem))
    lines = [line for passage in passages for line in _lines(passage)]
    lines.sort(key=lambda line: line[0] not in words)  # stable: otherwise best passage first, top to bottom
    tried: list[str] = []
    for step in steps:
        searched = {line.strip() for edit in parse_edits(step["text"]).edits for line in edit.search.splitlines()}
        prompts = [message["content"] for message in step["prompt"]]
        for _, pointer, text in lines:
            if text in searched or any(pointer in prompt.splitlines() for prompt in prompts):
                tried.append(pointer)
    pointers = [pointer for _, pointer, _ in lines]
    return min(pointers, key=tried.count, default="")


def _lines(passage: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Lines of code that an edit may change: the function they are in, the pointer to them, and their text."""
    opened: list[tuple[int, str]] = []
    in_text = False
    for match in filter(None, map(_NUMBERED.fullmatch, passage["text"].splitlines())):
        number, line = int(match[1]), match[2]
        quotes = sum(line.count(mark) for mark in _QUOTES)
        was_in_text, in_text = in_text, in_text != bool(quotes % 2)
        if function := _FUNCTION.match(line):
            opened = [one for one in opened if one[0] < len(function[1])] + [(len(function[1]), function[2])]
        if was_in_text or in_text or _NO_CODE.match(line):
            continue
        depth = len(line) - len(line.lstrip())
        opened = [one for one in opened if one[0] < depth]
        yield opened[-1][1] if opened else "", point_at(passage["path"], number, line), line.strip()
