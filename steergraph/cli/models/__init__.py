"""`steergraph models`: one module for what it does."""
