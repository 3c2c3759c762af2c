"""The user's test command: what it says of a repository before a patch and after, and whether that means anything."""
