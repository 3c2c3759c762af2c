"""A repository and an issue to the context that matters. Knows commits, terms and scores; knows no models."""

from typing import Literal

Ranker = Literal["fields", "rank_bm25"]
"""How files are ranked. `fields`: BM25 with fields over files and functions, and what the issue points at. `rank_bm25`:
that package's BM25Okapi over whole files, and nothing else."""
