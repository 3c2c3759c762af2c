"""Vectors on disk and in a library."""
