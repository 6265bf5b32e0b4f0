"""One function per ONNX operator, by domain and type."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ..walk import Walk
from . import (
    activations,
    arithmetic,
    convolutions,
    lookup,
    movement,
    normalization,
    products,
    quantized,
    recurrences,
    reductions,
    shapes,
    transposed,
)

Operator = Callable[[Walk, ir.Node], None]

OPERATORS: dict[tuple[str, str], Operator] = {
    **quantized.TABLE,
    **{
        ("", op_type): function
        for table in (
            activations.TABLE,
            arithmetic.TABLE,
            convolutions.TABLE,
            lookup.TABLE,
            movement.TABLE,
            normalization.TABLE,
            products.TABLE,
            recurrences.TABLE,
            reductions.TABLE,
            shapes.TABLE,
            transposed.TABLE,
        )
        for op_type, function in table.items()
    },
}
