"""How well files and functions are found, against rank_bm25 on the same instances."""
