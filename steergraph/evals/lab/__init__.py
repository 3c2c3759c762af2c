"""The steering lab: experiments on where steering works, on paired items, with one runner and one result format."""
