"""A specialist's messages, built from the roster: the one place where sections become a prompt.

Knows `specialists.yaml` and `edit_format.yaml`. Knows nothing of graphs, tasks or budgets: whoever calls it has already
cut every section to size. The graph's nodes and pocket's corpus both call it, so both say exactly the same.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from steergraph.configs import ConfigError, load_config


@cache
def _roster() -> dict[str, Any]:
    return {entry["name"]: entry for entry in load_config("specialists")["specialists"]}


def fill_system(system: str, edit_format: str = "search_replace") -> str:
    """`system` with an edit format's instructions in the place of {edit_format}."""
    return system.replace("{edit_format}", load_config("edit_format")["formats"][edit_format].rstrip("\n"))


def format_sections(
    reads: Iterable[str], sections: Mapping[str, str], own_frames: Mapping[str, str] | None = None
) -> str:
    """The user message: every non-empty section of `reads`, in that order, in its frame, with a blank line between.

    Sections that `reads` does not name are left out. `own_frames` stand in the place of the packaged ones. Raises
    ConfigError for a name without a frame.
    """
    frames: dict[str, str] = {**load_config("specialists")["sections"], **(own_frames or {})}
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


def in_fences(passages: str) -> str:
    """Passages as `format_passage` made them, joined, without their numbers: each file's lines in one fence under its
    path, in the order of the lines, with `...` where lines between them are not shown.

    Text in another form stays as it is.
    """
    layout = load_config("edit_format")
    header = re.compile(re.escape(layout["passage_header"]).replace(re.escape("{path}"), "(.+)"))
    numbered = re.compile(layout["passage_line"].replace("|", r"\|").format(number=r"(\d+)", text="(.*)"))
    files: dict[str, dict[int, str]] = {}
    lines: dict[int, str] | None = None
    for line in passages.split("\n"):
        if (found := numbered.fullmatch(line)) and lines is not None:
            lines[int(found[1])] = found[2]
        elif found := header.fullmatch(line):
            lines = files.setdefault(found[1], {})
        elif line:
            return passages
    return "\n\n".join(_fenced(path, lines) for path, lines in files.items() if lines)


def _fenced(path: str, lines: Mapping[int, str]) -> str:
    parts: list[str] = []
    before = None
    for number in sorted(lines):
        if before is not None and number != before + 1:
            parts.append("...")
        parts.append(lines[number])
        before = number
    fence = "`" * max(3, 1 + max((len(run) for line in parts for run in re.findall("`+", line)), default=0))
    language = {"py": "python", "pyi": "python"}.get(path.rpartition(".")[2], "")
    return f"{path}\n{fence}{language}\n" + "\n".join(parts) + f"\n{fence}"
