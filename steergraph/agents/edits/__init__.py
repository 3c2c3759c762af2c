"""From what a model wrote to a patch."""
