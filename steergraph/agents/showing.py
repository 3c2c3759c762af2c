"""Words for people: a decision in one line.

Knows decisions as plain data. Knows nothing of terminals or pages.
"""

from collections.abc import Mapping
from typing import Any


def describe(decision: Mapping[str, Any]) -> str:
    """One line: the vector, layer and dose, or that steering is off."""
    if decision["mode"] == "off":
        return "steering off"
    parts = [
        f"{c['vector']} @ layer {c['layer']}, alpha {c['alpha']:g} {c['unit'].replace('_', ' ')}, {c['positions']}"
        for c in decision["steering"]["components"]
    ]
    outside = " outside edit blocks" if decision["mode"] == "outside_spans" else ""
    return f"steering on{outside}: {' + '.join(parts)}"
