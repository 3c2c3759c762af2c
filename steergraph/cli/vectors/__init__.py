"""`steergraph vectors`: a module for each of its commands."""
