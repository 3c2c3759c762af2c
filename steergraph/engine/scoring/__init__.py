"""Log-likelihoods and probes."""
