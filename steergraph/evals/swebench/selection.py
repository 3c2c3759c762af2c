"""Which instances of a dataset: by id, slice, regular expression, or a sample balanced over repository clusters.

Knows rows and clusters. Filters are words, applied from left to right.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from steergraph.agents.router import cluster_of
from steergraph.base.errors import InputError

SHARES = {"django_web": 2, "scientific_computing": 1, "dev_tooling": 1}
"""Of a balanced sample, by cluster: of 20 instances 10, 5 and 5, as the study drew them."""
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d*))?")

Row = Mapping[str, str]


def select(rows: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """The rows that pass every filter, in the dataset's order. Raises InputError where a filter matches nothing.

    A word is a slice (`0:20`, `:5`, `::2`), a regular expression on ids between slashes (`/^django/`), a sample
    (`balanced:20`: the first of each cluster), a file of ids, one a line (`@FILE`), or ids with commas between.
    """
    chosen = list(rows)
    for word in words:
        chosen = _filtered(chosen, word, rows)
        if not chosen:
            raise InputError(f"--instances {word}: no instance is left")
    return chosen


def balanced(rows: Sequence[Row], n: int) -> list[Row]:
    """The first rows of each cluster, in shares of 2:1:1; where a cluster has too few, the others give more.

    Rows of repositories in no cluster are left out. Raises InputError where there are fewer than `n` in all.
    """
    clusters: dict[str, list[int]] = {cluster: [] for cluster in SHARES}
    for at, row in enumerate(rows):
        cluster = cluster_of(row["repo"])
        if cluster in clusters:
            clusters[cluster].append(at)
    if sum(map(len, clusters.values())) < n:
        raise InputError(f"balanced:{n}: only {sum(map(len, clusters.values()))} instances are of a known cluster")
    taken = dict.fromkeys(clusters, 0)
    for _ in range(n):
        # The cluster that is furthest behind its share gets the next place; the first listed of several. Half a place
        # more, not a whole one (Sainte-Laguë, not D'Hondt): the large share would win its ties and be a place ahead.
        open_ = [c for c in clusters if taken[c] < len(clusters[c])]
        taken[min(open_, key=lambda c: (taken[c] + 0.5) / SHARES[c])] += 1
    return [rows[at] for at in sorted(at for c, found in clusters.items() for at in found[: taken[c]])]


def _filtered(chosen: list[Row], word: str, rows: Sequence[Row]) -> list[Row]:
    if match := _SLICE.fullmatch(word):
        start, stop, step = (int(part) if part and part != "-" else None for part in match.groups())
        if step == 0:
            raise InputError(f"--instances {word}: the step of a slice is not 0")
        return [chosen[at] for at in sorted(range(len(chosen))[start:stop:step])]
    if len(word) > 1 and word.startswith("/") and word.endswith("/"):
        try:
            pattern = re.compile(word[1:-1])
        except re.error as error:
            raise InputError(f"--instances {word}: not a regular expression: {error}") from error
        return [row for row in chosen if pattern.search(row["instance_id"])]
    if word.startswith("balanced:"):
        if not word[9:].isdecimal() or int(word[9:]) < 1:
            raise InputError(f"--instances {word}: say how many, as in balanced:20")
        return balanced(chosen, int(word[9:]))
    return _by_id(chosen, word, rows)


def _by_id(chosen: list[Row], word: str, rows: Sequence[Row]) -> list[Row]:
    if word.startswith("@"):
        try:
            words = Path(word[1:]).read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--instances {word}: cannot read it: {error}") from error
    else:
        words = [part.strip() for part in word.split(",") if part.strip()]
    wanted = set(words)
    known = [row["instance_id"] for row in rows]
    unknown = sorted(wanted - set(known))
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.4)
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise InputError(f"no instance {unknown[0][:100]!r}{more} among {len(known)}{hint}")
    return [row for row in chosen if row["instance_id"] in wanted]
