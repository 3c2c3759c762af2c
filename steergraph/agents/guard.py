"""Looking at what came out of a steered step: empty, repeating itself, or running away.

Thresholds are in configs/policy.yaml. Knows text only.
"""

from steergraph.agents.policy import Guard

_GRAM = 4
_MIN_WORDS = 24


def repetition(text: str) -> float:
    """Share of the answer's 4-grams of words that occurred before in it; 0.0 for fewer than 24 words."""
    words = text.split()
    if len(words) < _MIN_WORDS:
        return 0.0
    grams = [tuple(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams)


def tripped(guard: Guard, text: str, finish_reason: str, n_tokens: int) -> str | None:
    """Why a steered answer should be spoken again with steering off, or None where it stands."""
    if len(text.strip()) < guard.min_characters:
        return "empty text"
    share = repetition(text)
    if share > guard.max_repetition:
        return f"repetition ({share:.0%} of its 4-grams occurred before)"
    if guard.refuse_runaway and finish_reason == "length" and n_tokens >= guard.min_runaway_tokens:
        return f"ran to its limit of {n_tokens} tokens"
    return None
