"""Models with short names: what the catalog knows, where their files are, and how they are fetched."""
