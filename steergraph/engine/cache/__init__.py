"""Keys and values of a running batch, and of prefixes that come again."""
