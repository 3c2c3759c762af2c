"""Models and tokenizers from disk or the hub."""
