"""Steering vectors: made, stored, dosed, compared, exchanged."""
