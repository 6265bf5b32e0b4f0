"""From a range to an encoding: the scale and zero point that hold it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .plan import INTEGER_RANGES, Encoding
from .scheme import ActivationType, Calibrator

SMALLEST_SPAN = 1e-30
"""Of a tensor that is always zero; any scale holds it."""


def encoding_for(
    low: float, high: float, kind: ActivationType, calibrator: Calibrator | Literal["given", "shared"] = "given"
) -> Encoding:
    """Asymmetric: the range, widened to hold zero, is spread over all integers of the type, and zero is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    least, greatest = INTEGER_RANGES[kind]
    if high - low < SMALLEST_SPAN:
        return Encoding(type=kind, scale=1.0, zero_point=least, calibrator=calibrator)
    # float32 is what the model holds; the zero point must fit that scale and not a finer one.
    scale = float(np.float32((high - low) / (greatest - least)))
    zero_point = int(np.clip(np.rint(least - low / scale), least, greatest))
    return Encoding(type=kind, scale=scale, zero_point=zero_point, calibrator=calibrator)


def symmetric_encoding_for(low: float, high: float, kind: ActivationType, calibrator: Calibrator) -> Encoding:
    """With zero point 0 and without the lowest integer, so that both ends are as far from zero."""
    peak = max(-low, high)
    scale = float(np.float32(peak / INTEGER_RANGES[kind][1])) if peak >= SMALLEST_SPAN else 1.0
    return Encoding(type=kind, scale=scale, zero_point=0, calibrator=calibrator)


def to_integers(array: NDArray[Any], encoding: Encoding) -> NDArray[Any]:
    """As QuantizeLinear rounds: half to even, clipped to the type."""
    least, greatest = INTEGER_RANGES[encoding.type]
    steps = np.rint(array.astype(np.float32) / np.float32(encoding.scale)) + encoding.zero_point
    integers: NDArray[Any] = np.clip(steps, least, greatest).astype(encoding.type)
    return integers
