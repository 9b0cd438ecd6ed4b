"""The paper's studies: one recipe each, and the harness and report they share."""
