"""Which operators Vela 5.2 leaves on the CPU, by type and by its words, and what helps. The first that fits is taken.

What is not in it runs on the NPU (grouped convolutions, transposes, leaky and parametric ReLUs, softmax of pictures,
batches of fully connected layers; tests/compiler/test_ethos_u_vela.py holds Vela to it), or has no form that does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ....tflite.file.model import ABSENT, Model
from ..cpu_operators import CpuOperator
from .blocks import depth_to_space, space_to_depth
from .gather import gather_by_slices
from .mean import mean_of_each, mean_of_lines
from .repeat import repeat_pixels
from .windows import slice_afterwards

Apply = Callable[[Model, int], Model | None]
"""Model and index of the operator, to a model with the same outputs bit by bit; None where it does not apply."""

ANY = ""


@dataclass(frozen=True)
class Suggestion:
    """What to do about an operator on the CPU."""

    types: frozenset[str]
    """TFLite's names; empty for all."""
    reason: str
    """Pattern that is searched in Vela's reason."""
    sentence: str
    apply: Apply | None = None


def _of(types: str, reason: str, sentence: str, apply: Apply | None = None) -> Suggestion:
    return Suggestion(frozenset(types.split()), reason, sentence, apply)


SUGGESTIONS = (
    _of(
        "QUANTIZE DEQUANTIZE",
        "(?i)float|opType",
        "Give the model integer inputs and outputs, and convert where the data comes from and goes to.",
    ),
    _of(ANY, "(?i)unsupported DataType Float", "Quantize the operator: the NPU computes in int8 and int16 only."),
    _of(
        "CONV_2D DEPTHWISE_CONV_2D MAX_POOL_2D",
        "kernel stride",
        "Move the window by at most three and take every n-th output.",
        slice_afterwards,
    ),
    _of("AVERAGE_POOL_2D", "kernel stride", "Leave out the padding: windows that move by more than 3 may have none."),
    _of("GATHER", ANY, "With constant indices, slice and concatenate.", gather_by_slices),
    _of("MEAN", "depth-reduction", "Reshape, so that the averaged values form the last axis.", mean_of_lines),
    _of("MEAN", "Batch", "Give one picture at a time: the NPU averages batches of one.", mean_of_each),
    _of(
        "RESIZE_NEAREST_NEIGHBOR",
        ANY,
        "Enlarge by at most 16: rows and columns are then repeated by concatenation.",
        repeat_pixels,
    ),
    _of(
        "RESIZE_BILINEAR",
        ANY,
        "Enlarge by 2, 4 or 8 (with half-pixel centers by 2) alike in both directions, in several steps if need be.",
    ),
    _of("SPACE_TO_DEPTH", ANY, "Reshape, transpose, reshape.", space_to_depth),
    _of("DEPTH_TO_SPACE", ANY, "Reshape, transpose, reshape.", depth_to_space),
    _of(
        "SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND",
        ANY,
        "Use a convolution with a dilation: Keras exports one as these two around a convolution.",
    ),
    _of("AVERAGE_POOL_2D", "kernel", "Without padding windows may be 256 high; with padding they end at 8 by 8."),
    _of(
        "MAXIMUM MINIMUM",
        "quantization",
        "Give both inputs and the output one scale and one zero point; calibrate them together.",
    ),
    _of("ARG_MAX", ANY, "Give out the scores and take the largest on the CPU, or have at most 127 of them."),
    _of("DIV", ANY, "By a constant: multiply by its reciprocal. Else an Ethos-U85, which divides."),
    _of("SQUARE", ANY, "Multiply the value by itself."),
    _of("LOG_SOFTMAX", ANY, "Give out the softmax, or the scores before it: the largest is the same."),
    _of("BROADCAST_TO", ANY, "Leave it out where an addition or multiplication follows, which broadcasts by itself."),
    _of("SOFTMAX", ANY, "Fewer than 65536 positions: reshape or tile the picture."),
    _of(
        "EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL LOGICAL_AND LOGICAL_OR LOGICAL_NOT SELECT SELECT_V2 "
        "CAST SCATTER_ND",
        "opType",
        "An Ethos-U85 runs it; for this NPU keep it out of the network, before or after it.",
    ),
    _of(ANY, "(?i)per-axis", "Quantize activations per tensor; only weights may have a scale per channel."),
    _of(ANY, "(?i)constant", "Make its parameters constants: fix the shapes when the model is exported."),
)


_INPUTS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "GATHER": 2, "MEAN": 2}
"""How many inputs a rewrite counts on, where it is more than one."""


def rewrite(model: Model, index: int, advice: Suggestion) -> Model | None:
    """The model without operator `index` but with the same outputs; None where that is not known to be possible."""
    operator = model.operators[index]
    needed = _INPUTS.get(operator.type, 1)
    if advice.apply is None or len(operator.inputs) < needed or len(operator.outputs) != 1:
        return None
    tensors = (*operator.inputs[:needed], *operator.outputs)
    if any(at == ABSENT or not all(size > 0 for size in model.tensors[at].shape) for at in tensors):
        return None
    return advice.apply(model, index)


def suggestion(model: Model, operator: CpuOperator) -> Suggestion | None:
    """What to do about it; None where nothing is known."""
    kind = model.operators[operator.index].type
    for one in SUGGESTIONS:
        if (not one.types or kind in one.types) and re.search(one.reason, operator.reason):
            return one
    return None
