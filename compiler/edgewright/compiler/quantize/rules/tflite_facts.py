"""Which encodings TFLite's integer kernels force.

Sources: the table "int8 operator specification" of tensorflow.org/lite/performance/quantization_spec, and what
tensorflow/lite/kernels/*.cc check in `Prepare`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..scheme import ActivationType

KEEPING: Final = frozenset(
    {
        "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool",
        "Pad", "ReduceMax", "ReduceMin", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile",
        "Transpose", "Unsqueeze", "Upsample",
    }
)  # fmt: skip
"""One encoding for what they read first and all that they give."""
AVERAGING: Final = frozenset({"AveragePool", "GlobalAveragePool"})
"""AVERAGE_POOL_2D keeps the encoding, too; where the result gets another, the emitter writes MEAN or a convolution with
ones, which rescale."""
JOINING: Final = frozenset({"Clip", "Concat", "Max", "Min", "Where"})
"""One encoding for all that they read and give."""

_UNIT = {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)}
_SIGNED_UNIT = {"int8": (1 / 128, 0), "int16": (1 / 32768, 0)}
FIXED: Final[Mapping[str, Mapping[str, tuple[float, int]]]] = {
    "Softmax": _UNIT,
    "Sigmoid": _UNIT,
    "HardSigmoid": _UNIT,
    "Tanh": _SIGNED_UNIT,
    "LogSoftmax": {"int8": (16 / 256, 127)},
    "LpNormalization": {"int8": (1 / 128, 0)},
}
"""Scale and zero point of a result, by operator and type: its kernels know no others."""


def kind_of(activations: ActivationType) -> str:
    """`int8` or `int16`.

    Raises:
        ValueError: TFLite has no kernels for these activations.
    """
    if activations not in {"int8", "int16"}:
        raise ValueError(f"TFLite has no kernels for {activations} activations, only for int8 and int16")
    return activations
