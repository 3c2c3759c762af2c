"""Best of n: candidates that say the same are one, unfit ones are left out, and most of the rest agree on the winner.

Knows patches, file texts and syntax trees. Knows nothing of how a candidate was made. What is judged may come from
anywhere: a size is looked at before a text, and no path is ever opened.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from pydantic import Field
from unidiff import PatchSet
from unidiff.errors import UnidiffParseError

from steergraph.agents.edits.paths import UnsafePath, safe_path
from steergraph.agents.state import PATCHED
from steergraph.base.records import Frozen
from steergraph.evals.swebench.sources import Source

LARGEST_PATCH = 1_000_000
"""Characters of a patch that is looked at. The largest gold patch of SWE-bench has some hundred thousand."""
_PLAIN_HEADER = re.compile(
    r"diff --git |index [0-9a-f]+\.\.[0-9a-f]+( 100(644|755))?$|(---|\+\+\+) |(new|deleted) file mode 100(644|755)$"
)
STATUSES = (*PATCHED, "checks_failed", "edit_did_not_apply", "no_edit", "no_context", "out_of_budget", "error")
"""How a sample ends; the one that came furthest first."""


class Candidate(Frozen):
    """One sample of an instance, as `record.json` has it."""

    sample: int
    source: Source
    status: str
    key: str | None = None
    """Hash of what the edit makes of the files, layout and comments aside; None where there is no patch."""
    empty: bool = False
    """The edit changes nothing but layout and comments."""
    patch: str = Field(default="", exclude=True)
    refused: tuple[str, ...] = ()
    """Why the patch can't be handed in, whatever its checks said."""
    votes: int = 0
    tokens: int = 0
    seconds: float = 0.0
    truncated: int = 0
    error: str | None = None


class Choice(Frozen):
    candidates: tuple[Candidate, ...]
    """With their votes."""
    chosen: int | None
    why: str | None
    status: str
    """Of the chosen one; without one, that of the sample that came furthest."""


def candidate_of(outcome: Mapping[str, Any]) -> Candidate:
    """A finished sample as a candidate."""
    edit = outcome.get("edit") or {}
    return Candidate(
        sample=outcome["sample"],
        source=outcome["source"],
        status=outcome["status"],
        key=edit.get("key"),
        empty=edit.get("empty", False),
        patch=outcome.get("patch") or "",
        refused=tuple(edit.get("refused", ())),
        tokens=outcome["tokens"],
        seconds=outcome["seconds"],
        truncated=sum(step["finish_reason"] == "length" for step in outcome["steps"]),
        error=outcome.get("error"),
    )


def patch_problems(diff: str, largest: int = LARGEST_PATCH) -> tuple[str, ...]:
    """Why a patch from anywhere is not fit to be applied by anyone, each in a line; () where it is.

    It may be no larger than `largest` characters, and may change, add and delete plain files inside the repository and
    nothing else: no absolute path, no `..`, no `.git`, no links, no other modes, no renames, nothing binary.
    """
    if len(diff) > largest:
        return (f"the patch has {len(diff):,} characters, and {largest:,} are looked at",)
    if not diff.strip():
        return ("the patch is empty",)
    try:
        files = PatchSet(StringIO(diff))
    except (UnidiffParseError, ValueError, IndexError) as error:
        return (f"the diff cannot be parsed: {' '.join(str(error).split())[:200]}",)
    if not files:
        return ("the diff names no file",)
    problems: list[str] = []
    for file in files:
        for name, prefix in ((file.source_file, "a/"), (file.target_file, "b/")):
            if name == "/dev/null":
                continue
            try:
                safe_path(name.removeprefix(prefix))
            except UnsafePath as error:
                problems.append(str(error))
        if file.is_rename or file.is_binary_file:
            problems.append(f"{file.path[:200]!r}: it renames a file or changes a binary one")
        for line in file.patch_info or ():
            if not _PLAIN_HEADER.match(line.rstrip("\n")):
                problems.append(f"{file.path[:200]!r}: it changes modes or makes links: {line.strip()[:100]!r}")
    return tuple(dict.fromkeys(problems))


def choose(candidates: Sequence[Candidate]) -> Choice:
    """The patch that most fit candidates agree on; of several, the one whose first voice came first.

    Fit is a candidate whose checks, and tests where there were any, passed, and that nothing refuses. One that changes
    nothing but comments and layout is taken only where there is no other.
    """
    fit = [c for c in candidates if c.status in PATCHED and c.key and not c.refused]
    telling = [c for c in fit if not c.empty]
    votes = Counter(c.key for c in telling or fit)
    voted = tuple(c.model_copy(update={"votes": votes[c.key] if c in (telling or fit) else 0}) for c in candidates)
    if not votes:
        statuses = [_status(c) for c in candidates]
        return Choice(candidates=voted, chosen=None, why=None, status=min(statuses, key=STATUSES.index))
    most = max(votes.values())
    winner = next(c for c in voted if c.votes == most)
    return Choice(
        candidates=voted, chosen=winner.sample, why=_why(winner, votes, len(candidates)), status=winner.status
    )


def _status(candidate: Candidate) -> str:
    """A patch that is refused failed a check."""
    return "checks_failed" if candidate.status in PATCHED else candidate.status


def _why(winner: Candidate, votes: Counter[str | None], samples: int) -> str:
    if samples == 1:
        return "the only sample"
    fit = sum(votes.values())
    if fit == 1:
        return f"the only fit candidate of {samples}"
    ties = sum(count == winner.votes for count in votes.values()) - 1
    tied = ", and came before others with as many" if ties else ""
    return f"{winner.votes} of {fit} fit candidates agree on it{tied}"


def contributions(instances: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """What each source contributed, over instance records: how many samples, fit candidates, edits that no other
    source found, choices, and instances that only it had a fit candidate for."""
    found: dict[str, dict[str, int]] = {}
    for record in instances:
        fit: dict[str, set[str]] = {}
        for candidate in record["candidates"]:
            kind = candidate["source"]["kind"]
            row = found.setdefault(kind, dict.fromkeys(("samples", "fit", "found_alone", "chosen", "only_source"), 0))
            row["samples"] += 1
            if candidate["votes"]:
                row["fit"] += 1
                fit.setdefault(kind, set()).add(candidate["key"])
            row["chosen"] += candidate["sample"] == record["chosen"]
        for kind, keys in fit.items():
            others = set().union(*(k for other, k in fit.items() if other != kind))
            found[kind]["found_alone"] += len(keys - others)
            found[kind]["only_source"] += len(fit) == 1
    return found
