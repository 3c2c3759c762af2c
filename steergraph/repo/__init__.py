"""A git repository at a commit: read, mirrored, copied."""
