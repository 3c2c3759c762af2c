"""One model that speaks and is measured, each row with its own steering."""
