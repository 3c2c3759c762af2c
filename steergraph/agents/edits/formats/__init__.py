"""The ways in which a model may say an edit, by name. Each reads an answer against what the model was shown.

An answer that holds edit blocks is read as such in every format: markers can't be meant otherwise.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from steergraph.agents.edits.blocks import ParsedEdits, has_blocks, parse_edits
from steergraph.agents.edits.formats.line import parse_lines
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.formats.unified import parse_unified
from steergraph.agents.edits.formats.whole_file import parse_files
from steergraph.agents.edits.formats.whole_function import parse_functions
from steergraph.agents.edits.patch import standing_in
from steergraph.configs import load_config
from steergraph.engine.protocol import Span

FormatName = Literal["search_replace", "whole_function", "whole_file", "unified_diff", "line"]


class EditFormat(NamedTuple):
    """One way of saying an edit."""

    name: FormatName
    reads: Callable[[str, Shown], ParsedEdits]
    spans: tuple[Span, ...]
    """Where in an answer a program reads, so that steering is suspended there."""

    def parse(self, answer: str, shown: Shown) -> ParsedEdits:
        """The edits of an answer, and what could not be read. Never raises."""
        return _blocks(answer, shown) if has_blocks(answer) else self.reads(answer, shown)


def _blocks(answer: str, shown: Shown) -> ParsedEdits:
    return parse_edits(answer, shown.paths, standing_in(shown.read))


def _block_spans() -> tuple[Span, ...]:
    marks = load_config("edit_format")
    return (Span(open=marks["search"], close=marks["replace"]),)


def edit_format(name: FormatName) -> EditFormat:
    """The edit format called `name`."""
    readers: Mapping[FormatName, Callable[[str, Shown], ParsedEdits]] = {
        "search_replace": _blocks,
        "whole_function": parse_functions,
        "whole_file": parse_files,
        "unified_diff": parse_unified,
        "line": parse_lines,
    }
    fenced = (Span(open="```", close="\n```"),)
    spans = {"search_replace": _block_spans(), "line": (Span(open="LINE ", close="\n"),)}
    return EditFormat(name, readers[name], spans.get(name, fenced))
