"""One function per ONNX operator, by type.

Their docstrings become the support table of docs/formats/tflite.md: the first line says what is written, a line
`Not: …` what is refused.
"""

from __future__ import annotations

from . import (
    activations,
    arithmetic,
    casts,
    comparisons,
    convolutions,
    functions,
    joining,
    lookup,
    movement,
    normalization,
    padding,
    pools,
    products,
    reductions,
    resizing,
    selection,
    slicing,
    softmax,
    transposed_convolutions,
)
from .operator import Operator

OPERATORS: dict[str, Operator] = {
    op_type: operator
    for table in (
        activations.TABLE,
        arithmetic.TABLE,
        casts.TABLE,
        comparisons.TABLE,
        convolutions.TABLE,
        functions.TABLE,
        joining.TABLE,
        lookup.TABLE,
        movement.TABLE,
        padding.TABLE,
        resizing.TABLE,
        slicing.TABLE,
        transposed_convolutions.TABLE,
        normalization.TABLE,
        pools.TABLE,
        products.TABLE,
        reductions.TABLE,
        selection.TABLE,
        softmax.TABLE,
    )
    for op_type, operator in table.items()
}

__all__ = ["OPERATORS", "Operator"]
