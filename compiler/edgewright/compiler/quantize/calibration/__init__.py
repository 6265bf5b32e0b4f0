"""What activations look like: statistics of a run over samples, and the ranges that are taken from them."""
