"""Whether a patch resolves its instance: the sandbox or the official harness, decided by swebench's own parsers."""
