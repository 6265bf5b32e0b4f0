"""HardSigmoid without a kernel of its own: an integer addition whose rounding does the clipping.

`HardSigmoid(x) = min(1, max(0, alpha * x + beta))`. The integers of x with `alpha` times its scale are those of
`alpha * x`, so nothing is multiplied; the sum saturates at 0 and 1 where the encoding of the result ends there.
"""

from __future__ import annotations

import onnx_ir as ir

from .plan import Encoding

ALPHA = 0.2
BETA = 0.5
"""Where the node does not say; ONNX operators, HardSigmoid-6."""


def is_addition(node: ir.Node) -> bool:
    """Whether slope and offset can be put into scales, which are above zero."""
    return node.attributes.get_float("alpha", ALPHA) > 0 and node.attributes.get_float("beta", BETA) > 0


def is_clipped_by(encoding: Encoding, tolerance: float) -> bool:
    """Whether rounding to the encoding clips to 0 and 1; `tolerance` in steps."""
    return encoding.low >= -tolerance * encoding.scale and encoding.high <= 1 + tolerance * encoding.scale


def slope_of(node: ir.Node) -> float:
    """The factor of the input."""
    return node.attributes.get_float("alpha", ALPHA)


def offset_of(node: ir.Node) -> float:
    """What is added."""
    return node.attributes.get_float("beta", BETA)
