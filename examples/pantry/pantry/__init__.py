"""A small pantry keeper."""
