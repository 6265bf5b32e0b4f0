"""One function per TFLite operator, by type. Their docstrings say which operators of ONNX they write."""

from __future__ import annotations

from . import (
    blocks,
    conversions,
    convolutions,
    elementwise,
    joining,
    pools,
    products,
    reductions,
    resizing,
    shapes,
    slices,
    unary,
)
from .row import Row

OPERATORS: dict[str, Row] = {
    kind: row
    for table in (
        blocks.TABLE,
        conversions.TABLE,
        convolutions.TABLE,
        elementwise.TABLE,
        joining.TABLE,
        pools.TABLE,
        products.TABLE,
        reductions.TABLE,
        resizing.TABLE,
        shapes.TABLE,
        slices.TABLE,
        unary.TABLE,
    )
    for kind, row in table.items()
}

__all__ = ["OPERATORS", "Row"]
