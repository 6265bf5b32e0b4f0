"""Kernel families: one module each, with `FAMILY` at its end. `families.py` says which may compute a layer."""
