"""Random operators that multiply and sum: products, windows, normalizations, reductions, recurrences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .drawing import chance, clear, number, one_of
from .graph_writer import Writer
from .random_elementwise import partner

REDUCTIONS = (
    "ReduceSum", "ReduceMean", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare", "ReduceL1",
    "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin",
)  # fmt: skip


def convolution(w: Writer) -> None:
    x = w.pick(ranks=(3, 4))
    if not x:
        return
    _, channels, *size = w.values[x].shape
    groups = int(one_of(w, 1, 1, channels, *[each for each in (2, 3, 4) if channels % each == 0]))
    made = groups * number(w, 1, 3 if groups > 1 else 20)
    if groups == channels and chance(w, 0.7):
        made = channels
    kernel = [one_of(w, 1, 1, 2, 3, 3, 3, 5) for _ in size]
    if chance(w, 0.6):
        kernel = [kernel[0]] * len(size)
    if chance(w, 0.1):
        kernel = list(size)
    attributes = windows(w, kernel)
    bias = [w.floats(made)] if chance(w, 0.7) else []
    scale = 1 / np.sqrt(channels // groups * np.prod(kernel))
    found = w.node(
        "Conv", x, w.floats(made, channels // groups, *kernel, scale=scale), *bias, group=groups, **attributes
    )
    if found and chance(w, 0.5):
        after_product(w, found[0])


def after_product(w: Writer, y: str) -> None:
    """What exporters put behind a product."""
    kind = one_of(w, "Relu", "Clip", "BatchNormalization", "Add", "LeakyRelu", "HardSwish", "Mul")
    if kind == "Clip":
        w.node("Clip", y, w.constant(np.float32(0)), w.constant(np.float32(6)))
    elif kind == "BatchNormalization":
        normalized_batch(w, y)
    elif kind in ("Add", "Mul"):
        w.node(kind, *one_of(w, (y, partner(w, y)), (partner(w, y), y)))
    else:
        w.node(kind, y)


def windows(w: Writer, kernel: list[int]) -> dict[str, Any]:
    """Strides, dilations and padding of a kernel."""
    found: dict[str, Any] = {"kernel_shape": kernel, "strides": [one_of(w, 1, 1, 1, 2, 3) for _ in kernel]}
    if chance(w, 0.2):
        found["dilations"] = [number(w, 1, 3) for _ in kernel]
    mode = one_of(w, "pads", "pads", "same", "SAME_UPPER", "SAME_LOWER", "VALID")
    if mode == "pads":
        found["pads"] = [number(w, 0, max(0, side - 1)) for side in (*kernel, *kernel)]
    elif mode == "same":
        found["pads"] = [side // 2 for side in kernel] * 2
    elif "dilations" not in found:
        found["auto_pad"] = mode
    return found


def transposed_convolution(w: Writer) -> None:
    x = w.pick(ranks=(3, 4))
    if not x:
        return
    _, channels, *size = w.values[x].shape
    groups = int(one_of(w, 1, 1, *[each for each in (2, channels) if channels % each == 0]))
    kernel, made = [number(w, 1, 4) for _ in size], number(w, 1, 6)
    strides = [number(w, 1, 3) for _ in size]
    attributes: dict[str, Any] = {"group": groups, "strides": strides}
    if chance(w, 0.4):
        attributes["pads"] = [number(w, 0, side - 1) for side in (*kernel, *kernel)]
    if chance(w, 0.2):
        attributes["output_padding"] = [number(w, 0, stride - 1) for stride in strides]
    if chance(w, 0.15):
        attributes["dilations"] = [number(w, 1, 2) for _ in size]
    bias = [w.floats(groups * made)] if chance(w, 0.5) else []
    w.node("ConvTranspose", x, w.floats(channels, made, *kernel, scale=0.4), *bias, **attributes)


def pool(w: Writer) -> None:
    x = w.pick(ranks=(3, 4))
    if not x:
        return
    axes = w.values[x].ndim - 2
    operator = one_of(w, "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
    if operator.startswith("Global"):
        w.node(operator, x)
        return
    attributes = windows(w, [number(w, 1, 4) for _ in range(axes)])
    if chance(w, 0.3) and "auto_pad" not in attributes:
        attributes["ceil_mode"] = 1
    if operator == "AveragePool":
        attributes["count_include_pad"] = number(w, 0, 1)
        attributes.pop("dilations", None)
    w.node(operator, x, **attributes)


def gemm(w: Writer) -> None:
    x = w.pick(ranks=(2,))
    if not x:
        return
    shape = w.values[x].shape
    turned, transposed, made = chance(w, 0.2), chance(w, 0.5), number(w, 1, 40)
    terms, rows = (shape[0], shape[1]) if turned else (shape[1], shape[0])
    weight = w.floats(*((made, terms) if transposed else (terms, made)), scale=1 / np.sqrt(terms))
    third = one_of(w, [], [w.floats(made)], [w.floats(made)], [w.floats(rows, made)], [w.floats(rows, 1)])
    factors: dict[str, Any] = {"alpha": float(one_of(w, 1, 1, 0.5)), "beta": float(one_of(w, 1, 1, 2))}
    found = w.node("Gemm", x, weight, *third, transA=int(turned), transB=int(transposed), **factors)
    if found and chance(w, 0.5):
        after_product(w, found[0])


def matmul(w: Writer) -> None:
    """With a constant on either side, or with another value."""
    x = w.pick(ranks=(1, 2, 3, 4))
    if not x:
        return
    shape, made = w.values[x].shape, number(w, 1, 30)
    kind = one_of(w, "right", "right", "left", "self", "value")
    scale = 1 / np.sqrt(shape[-1])
    if kind == "right":
        w.node("MatMul", x, w.floats(shape[-1], made, scale=scale))
    elif kind == "left" and len(shape) > 1:
        w.node("MatMul", w.floats(made, shape[-2], scale=1 / np.sqrt(shape[-2])), x)
    elif kind == "self" and len(shape) > 1:
        axes = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        turned = w.node("Transpose", x, perm=axes)
        w.node("MatMul", *one_of(w, (x, turned[0]), (turned[0], x)))
    else:
        fitting = [
            name for name, array in w.values.items()
            if array.dtype == np.float32 and array.ndim and array.shape[max(array.ndim - 2, 0)] == shape[-1]
        ]  # fmt: skip
        if fitting:
            w.node("MatMul", x, str(w.random.choice(fitting)))


def attention(w: Writer) -> None:
    """Softmax of a product with itself, turned, times the value."""
    x = w.pick(ranks=(3, 4))
    if not x or w.values[x].shape[-2] < 2:
        return
    rank = w.values[x].ndim
    turned = w.node("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = w.node("MatMul", x, turned[0]) if turned else []
    scaled = w.node("Mul", scores[0], w.constant(np.float32(0.2))) if scores else []
    share = w.node("Softmax", scaled[0], axis=-1) if scaled else []
    if share:
        w.node("MatMul", share[0], x)


def normalized_batch(w: Writer, x: str) -> None:
    channels = w.values[x].shape[1]
    parts = [w.floats(channels) for _ in range(3)]
    w.node("BatchNormalization", x, *parts, w.constant(np.asarray(w.random.uniform(0.2, 2, channels), np.float32)))


def normalization(w: Writer) -> None:
    """Never of a picture of one point: it is nothing but what ONNX Runtime rounds."""
    x = w.pick(ranks=(2, 3, 4))
    if not x:
        return
    shape = w.values[x].shape
    kind = one_of(w, "Batch", "Layer", "Layer", "Instance", "Group", "Softmax", "LogSoftmax", "Softmax")
    axis = number(w, 0, len(shape) - 1)
    if kind == "Batch":
        normalized_batch(w, x)
    elif kind == "Layer":
        scale = [w.floats(*shape[axis:]) for _ in range(number(w, 1, 2))]
        w.node("LayerNormalization", x, *scale, axis=axis, epsilon=1e-3)
    elif kind == "Instance" and math.prod(shape[2:]) > 1:
        w.node("InstanceNormalization", x, w.floats(shape[1]), w.floats(shape[1]), epsilon=1e-3)
    elif kind == "Group" and math.prod(shape[2:]) > 1:
        groups = int(one_of(w, *[each for each in range(1, shape[1] + 1) if shape[1] % each == 0]))
        width = groups if w.opset < 21 else shape[1]
        w.node("GroupNormalization", x, w.floats(width), w.floats(width), num_groups=groups, epsilon=1e-3)
    elif kind.endswith("Softmax"):
        w.node(kind, x, axis=axis)


def reduction(w: Writer) -> None:
    x = w.pick()
    if not x:
        return
    array, operator = w.values[x], one_of(w, *REDUCTIONS)
    axes = sorted(int(axis) for axis in w.random.choice(array.ndim, number(w, 1, array.ndim), replace=False))
    if operator == "ReduceLogSum" and array.min() < 0.1:
        return
    if operator.startswith("Arg"):
        axis = axes[0]
        ordered = np.sort(array, axis)
        gap = (
            np.diff(ordered, axis=axis).take(-1 if operator == "ArgMax" else 0, axis)
            if array.shape[axis] > 1
            else np.ones(1)
        )
        if clear(gap, array):
            w.node(operator, x, axis=axis, keepdims=number(w, 0, 1))
        return
    axes = [axis - array.ndim if chance(w, 0.2) else axis for axis in axes]
    w.node(operator, x, w.whole(*axes), keepdims=number(w, 0, 1))


def recurrent(w: Writer) -> None:
    x = w.pick(ranks=(3,))
    if not x or w.values[x].shape[0] > 12:
        return
    _, batch, width = w.values[x].shape
    kind, hidden = one_of(w, "LSTM", "GRU"), number(w, 1, 20)
    direction = one_of(w, "forward", "reverse", "bidirectional")
    gates, ways = 4 if kind == "LSTM" else 3, 2 if direction == "bidirectional" else 1
    parts = [
        w.floats(ways, gates * hidden, width, scale=1 / np.sqrt(width)),
        w.floats(ways, gates * hidden, hidden, scale=1 / np.sqrt(hidden)),
    ]
    if chance(w, 0.7):
        parts.append(w.floats(ways, 2 * gates * hidden))
        if chance(w, 0.4):
            parts += ["", w.floats(ways, batch, hidden)]
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if kind == "GRU":
        attributes["linear_before_reset"] = number(w, 0, 1)
    w.node(kind, x, *parts, results=3 if kind == "LSTM" else 2, **attributes)
