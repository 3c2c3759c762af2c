"""steergraph: a LangGraph of specialists for small language models, each with its own activation steering.

The public names are imported on first use, so that `import steergraph` loads neither torch nor transformers.
"""
