"""Inference engines behind one small protocol, each optional and importable alone."""
