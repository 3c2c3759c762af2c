"""Code that nobody trusts runs here and nowhere else."""
