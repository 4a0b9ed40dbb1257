"""Coverage-guided fuzzing: every reader of strangers' bytes under random input, and what must stay true of its answers."""
