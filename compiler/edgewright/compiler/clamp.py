"""Relu and Clip: between which bounds they leave numbers, and when rounding does their work."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from .attributes import given

MAX_ABSORBED_SHARE_OF_STEP: Final = 0.51
"""How far, in steps, an encoding may reach beyond a clamp's bounds and still replace it: a zero point is rounded by up
to half a step."""


def bounds_of(node: ir.Node) -> tuple[float, float] | None:
    """Least and greatest result of a Relu or Clip; None where they are computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    bounds = [-np.inf, np.inf]
    for side, value in enumerate((given(node, 1), given(node, 2))):
        if value is not None:
            if value.const_value is None:
                return None
            bounds[side] = float(value.const_value.numpy().reshape(()))
    return bounds[0], bounds[1]
