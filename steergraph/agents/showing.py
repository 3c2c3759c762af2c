"""Words for people: a decision in one line, and text from elsewhere that can't do anything where it is shown.

Knows decisions as plain data. Knows nothing of terminals or pages.
"""

import unicodedata
from collections.abc import Mapping
from typing import Any

_REFUSED = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def harmless(text: str) -> str:
    """`text` with every control, format and bidirectional character but newline and tab made visible."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _REFUSED else f"\\u{{{ord(c):x}}}" for c in text)


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
