"""Making vectors from contrast sets."""
