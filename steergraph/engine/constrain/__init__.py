"""Answers held to a grammar, token by token."""
