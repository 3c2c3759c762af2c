"""What servers and clients say to each other, defined once: `steergraph serve` writes it, a remote engine reads it."""
