"""Runs side by side: what was found, what applies, what is resolved, with paired tests."""
