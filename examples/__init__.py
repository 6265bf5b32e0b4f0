"""Examples that run: each drives the public commands only, as a user would."""
