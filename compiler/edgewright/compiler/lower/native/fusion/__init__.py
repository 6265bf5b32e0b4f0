"""Makes a net cheaper without changing what it computes: fewer layers, fewer bytes moved."""
