"""How far live data are from a baseline, and when people are told."""
