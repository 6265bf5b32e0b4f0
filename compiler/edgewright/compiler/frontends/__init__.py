"""Ways in: each frontend turns a trained model into a checked `Graph`."""
