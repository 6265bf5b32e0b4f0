"""Which encodings TFLite's integer kernels force.

Sources: the table "int8 operator specification" of tensorflow.org/lite/performance/quantization_spec, and what
tensorflow/lite/kernels/*.cc check in `Prepare`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...tflite.emitter.operators.activations import GATE, LOGISTIC, TANH
from ...tflite.emitter.operators.softmax import LOG_SOFTMAX, SOFTMAX
from ...tflite.file.model import Quantization
from ..scheme import ActivationType

KEEPING: Final = frozenset(
    {
        "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherND", "GlobalMaxPool", "Identity", "MaxPool",
        "Pad", "ReduceMax", "ReduceMin", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile",
        "TopK", "Transpose", "Unsqueeze", "Upsample",
    }
)  # fmt: skip
"""One encoding for what they read first and all that they give."""
AVERAGING: Final = frozenset({"AveragePool", "GlobalAveragePool"})
"""AVERAGE_POOL_2D keeps the encoding, too; where the result gets another, the emitter writes MEAN or a convolution with
ones, which rescale."""
JOINING: Final = frozenset({"Concat", "Max", "Min", "Where"})
"""One encoding for all that they read and give."""


def _numbers(kernels: Mapping[str, Quantization | None]) -> Mapping[str, tuple[float, int]]:
    return {kind: (each.scales[0], each.zero_points[0]) for kind, each in kernels.items() if each is not None}


FIXED: Final = {
    "Sigmoid": _numbers(LOGISTIC),
    "Tanh": _numbers(TANH),
    "HardSigmoid": _numbers(GATE),
    "Softmax": _numbers(SOFTMAX),
    "LogSoftmax": _numbers(LOG_SOFTMAX),
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
