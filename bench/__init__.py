"""Benchmarks: one file per question. Each prints its table and writes `results/NAME.json` with machine, versions and date."""
