"""SWE-bench from a split to a graded report, benches, and the lab."""
