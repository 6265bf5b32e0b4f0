"""Accuracy control: which operators to repair, and how, so that a plan keeps to the budget at the least latency."""
