"""Routes: endpoints that stand before models and decide which of them answers."""
