"""Benchmarks: one file per question, run as `python -m bench.NAME`.

Each prints its table and writes `results/NAME.json` with machine, versions and date.
"""
