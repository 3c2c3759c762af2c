"""What answers amount to: each as edits, a diff and files, or what is wrong with it; and which of several say the same.

Knows edit formats and the files they are about. Which patch holds is for the check to say.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from steergraph.agents.edits.formats import EditFormat
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.meaning import edit_key
from steergraph.agents.edits.patch import Read, apply_edits, unified_diff
from steergraph.base.records import Frozen


class Draft(Frozen):
    """What one answer amounts to."""

    edits: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    diff: str | None = None
    files: Mapping[str, str | None] = Field(default_factory=dict)
    drawn: int = 1
    """How many answers amount to this one, by the syntax trees of the files."""


def drafted(answer: str, form: EditFormat, shown: Shown) -> Draft:
    """An answer as edits, a diff and files, or what is wrong with it. Nothing of an answer with a problem is kept."""
    parsed = form.parse(answer, shown)
    edits = tuple(edit.model_dump(mode="json", exclude_none=True) for edit in parsed.edits)
    problems = list(parsed.problems)
    if not parsed.edits and not problems:
        problems = ["there is no edit in the answer"]
    if problems:
        return Draft(edits=edits, problems=tuple(problems), notes=parsed.notes)
    applied = apply_edits(parsed.edits, shown.read)
    inexact = tuple(match.inexact for match in applied.matched if match.inexact)
    if applied.problems:
        return Draft(edits=edits, problems=applied.problems, notes=(*parsed.notes, *inexact))
    diff = unified_diff(applied.before, applied.after, applied.kept)
    return Draft(edits=edits, problems=(), notes=(*parsed.notes, *inexact), diff=diff, files=applied.after)


def in_order(drafts: Sequence[Draft], read: Read) -> list[Draft]:
    """The drafts that are patches, each kind once: what was drawn most often first, of equals what was drawn first, and
    last what changes only comments and layout. `read` gives the files as they were."""
    kinds: dict[tuple[bool, str], list[Draft]] = {}
    for draft in drafts:
        if draft.diff is not None:
            key, empty = edit_key(draft.files, read)
            kinds.setdefault((empty, key), []).append(draft)
    found = [(empty, same[0].model_copy(update={"drawn": len(same)})) for (empty, _), same in kinds.items()]
    return [draft for _, draft in sorted(found, key=lambda one: (one[0], -one[1].drawn))]
