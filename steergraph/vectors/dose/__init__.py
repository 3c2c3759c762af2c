"""How much of a vector: in parts of the residual norm, or at a given KL."""
