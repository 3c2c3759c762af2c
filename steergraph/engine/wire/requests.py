"""What every way of asking says alike."""

from collections.abc import Sequence


def stop_sequences(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """OpenAI's `stop`: one text, several or none; empty ones stop nothing."""
    return tuple(filter(None, (stop,) if isinstance(stop, str) else stop or ()))
