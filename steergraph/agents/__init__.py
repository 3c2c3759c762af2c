"""The state machine: who speaks next, steered how, and why."""
