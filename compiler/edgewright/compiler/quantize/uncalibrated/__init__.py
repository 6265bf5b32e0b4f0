"""Methods that need no data: ranges of each call, and weights that are only stored as integers."""
