"""What bench/cost.py is made of; no benchmarks by themselves."""
