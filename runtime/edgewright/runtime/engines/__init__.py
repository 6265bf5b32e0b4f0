"""Inference engines behind one small interface. Nothing here is imported before a bundle asks for its engine."""
