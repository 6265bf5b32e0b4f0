"""From the ONNX graph to a net: layouts, shapes, broadcasting and constants are resolved here.

`walk.py` is what operator functions use, `operators/` holds one file per group of them, `lower.py` runs them.
"""

from __future__ import annotations

from .lower import lower

__all__ = ["lower"]
