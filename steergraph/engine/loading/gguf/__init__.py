"""Models from GGUF files: what a file says, and the same model as a folder that loads like any other."""
