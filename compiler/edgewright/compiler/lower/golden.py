"""The device's self-test: a few inputs, the outputs of exact arithmetic, and how far an honest engine may be off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.golden import Golden, compare

from ..data import Samples
from .onnxruntime import Outputs

GOLDEN_SAMPLES = 8
MAX_GOLDEN_BYTES = 4 << 20
FAITHFUL_SNR_DB = 20.0
"""Rounding of single steps keeps engine and exact arithmetic above 35 dB on every net tried; saturation falls to 25
and far below."""
RELATIVE_TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2, "int8": 1e-2}
PEAK_SHARE = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2, "int8": 2e-2}
"""Least absolute tolerance, as a part of the largest output: a few steps of an int8 output."""
OBSERVED_MARGIN = 3.0
"""Absolute tolerance over the largest difference seen between engine and exact arithmetic."""


def golden_samples(samples: Samples, batch: int | None) -> Samples:
    """The first few samples: as many as the model takes at once, few enough to stay small."""
    sample_bytes = sum(array[:1].nbytes for array in samples.inputs.values())
    count = batch or max(1, min(GOLDEN_SAMPLES, MAX_GOLDEN_BYTES // max(1, sample_bytes)))
    indices = np.arange(count) % len(samples)
    return samples.take(indices)


def make_golden(inputs: Mapping[str, NDArray[Any]], exact: Outputs, precision: str, observed: float) -> Golden:
    """Expected outputs with tolerances; `observed` is the largest difference seen on other samples."""
    peak = max((float(np.max(np.abs(array.astype(np.float64)))) for array in exact.values() if array.size), default=1.0)
    return Golden(
        inputs=dict(inputs),
        outputs=dict(exact),
        relative_tolerance=RELATIVE_TOLERANCE[precision],
        absolute_tolerance=float(f"{max(OBSERVED_MARGIN * observed, PEAK_SHARE[precision] * peak, 1e-6):.3g}"),
    )


def largest_difference(found: Outputs, exact: Outputs) -> float:
    """Over all outputs."""
    return max(
        (float(np.max(np.abs(found[name].astype(np.float64) - exact[name].astype(np.float64)))) for name in exact),
        default=0.0,
    )


def passes(golden: Golden, outputs: Outputs) -> bool:
    """Whether these outputs would pass on a device."""
    return compare(golden, outputs).passed
