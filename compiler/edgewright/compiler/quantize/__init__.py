"""int8: what the activations look like (calibrate), which numbers to use (plan), and how they are written (static)."""
