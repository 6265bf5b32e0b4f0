"""A process per model: what crashes or hangs in it takes nobody else along."""
