"""A specialist's messages, built from the roster: the one place where sections become a prompt.

Knows `specialists.yaml` and `edit_format.yaml`. Knows nothing of graphs, tasks or budgets: whoever calls it has already
cut every section to size. The graph's nodes and pocket's corpus both call it, so both say exactly the same.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from steergraph.configs import ConfigError, load_config


@cache
def _roster() -> dict[str, Any]:
    return {entry["name"]: entry for entry in load_config("specialists")["specialists"]}


def fill_system(system: str) -> str:
    """`system` with the edit format's instructions in the place of {edit_format}."""
    return system.replace("{edit_format}", load_config("edit_format")["instructions"].rstrip("\n"))


def format_sections(reads: Iterable[str], sections: Mapping[str, str]) -> str:
    """The user message: every non-empty section of `reads`, in that order, in its frame, with a blank line between.

    Sections that `reads` does not name are left out. Raises ConfigError for a name without a frame.
    """
    frames: dict[str, str] = load_config("specialists")["sections"]
    parts = []
    for name in reads:
        if name not in frames:
            raise ConfigError(f"configs/specialists.yaml: `reads` names the section {name!r}, which `sections` lacks")
        text = sections.get(name, "").strip("\n")
        if text.strip():
            parts.append(frames[name].replace("{text}", text))
    return "\n\n".join(parts)


def build_messages(specialist: str, sections: Mapping[str, str]) -> list[dict[str, str]]:
    """System and user message ({"role", "content"}) of the packaged specialist called `specialist`.

    `sections` maps section names (issue, context, notes, feedback, question, examples) to their text; empty ones and
    those the specialist does not read are left out. Raises ConfigError for an unknown specialist.
    """
    entry = _roster().get(specialist)
    if entry is None:
        raise ConfigError(f"no specialist called {specialist!r}: configs/specialists.yaml has {', '.join(_roster())}")
    return [
        {"role": "system", "content": fill_system(entry["system"])},
        {"role": "user", "content": format_sections(entry["reads"], sections)},
    ]


def format_passage(path: str, first_line: int, lines: Iterable[str]) -> str:
    """A passage of code as a prompt shows it: the header, then each line behind its number, from `first_line` on."""
    layout = load_config("edit_format")
    header: str = layout["passage_header"].format(path=path)
    numbered = (layout["passage_line"].format(number=first_line + i, text=line) for i, line in enumerate(lines))
    return "\n".join([header, *numbered])
