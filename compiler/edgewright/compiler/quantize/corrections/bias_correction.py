"""Bias correction: what rounding a weight shifts its output by on average goes back into the bias.

Source: Nagel, van Baalen, Blankevoort, Welling 2019, arXiv:1906.04721, section 4.2. A product with rounded weights W'
has the mean error (W' - W) E[x]; here E[x] is measured, per input channel, and a padded convolution weighs each
position of its kernel by the share of outputs at which that position lies on data and not on the padding.
"""

from __future__ import annotations

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...graph import Graph
from ..calibration.statistics import Statistics
from ..plan import Operator, Plan, WeightEncoding
from ..weights import restored, rounded, weight_array
from .equalize import equalized
from .weight_layout import by_channel

INTEGER = frozenset({"int8", "int16"})


def corrected(graph: Graph, plan: Plan, statistics: Statistics) -> Plan:
    """The plan with the bias correction of every integer Conv and Gemm whose input channels are known.

    Args:
        graph: the float graph of the plan, before its equalisations.
        plan: encodings belong to the graph after its equalisations, as everywhere.
        statistics: of the graph after the plan's equalisations.
    """
    after = equalized(graph, plan.equalizations) if plan.equalizations else graph
    operators = dict(plan.operators)
    for node in after.graph:
        operator = operators.get(node.name or "")
        if operator is None or operator.compute not in INTEGER or operator.weight is None:
            continue
        shift = _shift(node, operator.weight, statistics)
        if shift is not None:
            operators[node.name or ""] = _with_correction(operator, shift)
    return msgspec.structs.replace(plan, operators=operators)


def _with_correction(operator: Operator, shift: NDArray[np.float64]) -> Operator:
    values = tuple(float(value) for value in shift.astype(np.float32))
    return msgspec.structs.replace(operator, bias_correction=values)


def _shift(node: ir.Node, encoding: WeightEncoding, statistics: Statistics) -> NDArray[np.float64] | None:
    """(outputs,): what to add to the bias; None where it cannot be known or there is no bias to add it to."""
    weight = weight_array(node) if _takes_correction(node) else None
    value = node.inputs[0] if node.inputs else None
    if weight is None or value is None or encoding.block_size is not None:
        return None
    channels = statistics.channels.get((value.name or "", 1 if node.op_type == "Conv" else -1))
    if channels is None or not np.isfinite(channels.mean).all():
        return None
    lost = weight.astype(np.float64) - restored(rounded(weight, encoding), encoding)
    view = by_channel(node, lost)
    if len(channels.mean) != view.shape[0] * view.shape[2] or not np.isfinite(lost).all():
        return None
    means = channels.mean.reshape(view.shape[0], view.shape[2])
    shift: NDArray[np.float64] = np.einsum("goik,gi,k->go", view, means, _shares_on_data(node, weight)).reshape(-1)
    return shift


def _takes_correction(node: ir.Node) -> bool:
    """Convolutions, and plain A B + C: a MatMul has no bias, and other factors scale the bias as well."""
    if node.op_type != "Gemm":
        return node.op_type == "Conv"
    factors = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    return factors == [1.0, 1.0] and not node.attributes.get_int("transA", 0)


def _shares_on_data(node: ir.Node, weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """Per kernel position, the share of outputs at which it reads data; 1 where sizes are not known."""
    if node.op_type != "Conv":
        return np.ones(1)
    kernel = weight.shape[2:]
    sizes = _spatial_sizes(node.inputs[0]), _spatial_sizes(node.outputs[0])
    shares = np.ones(())
    for axis, length in enumerate(kernel):
        before, after = (None if size is None else size[axis] for size in sizes)
        shares = np.multiply.outer(shares, _share_along(node, axis, length, before, after))
    return shares.reshape(-1)


def _spatial_sizes(value: ir.Value | None) -> list[int | None] | None:
    if value is None or value.shape is None:
        return None
    return [size if isinstance(size, int) else None for size in list(value.shape)[2:]]


def _share_along(node: ir.Node, axis: int, kernel: int, inputs: int | None, outputs: int | None) -> NDArray[np.float64]:
    if inputs is None or outputs is None or outputs == 0:
        return np.ones(kernel)
    stride = _along(node, "strides", axis, 1)
    dilation = _along(node, "dilations", axis, 1)
    starts = np.arange(outputs)[:, None] * stride - _pad_before(node, axis, kernel, inputs, outputs)
    places = starts + np.arange(kernel)[None, :] * dilation
    share: NDArray[np.float64] = ((places >= 0) & (places < inputs)).mean(axis=0)
    return share


def _pad_before(node: ir.Node, axis: int, kernel: int, inputs: int, outputs: int) -> int:
    """ONNX Conv: `auto_pad` SAME_UPPER puts the odd pixel behind, SAME_LOWER in front."""
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    if mode in {"SAME_UPPER", "SAME_LOWER"}:
        reach = (outputs - 1) * _along(node, "strides", axis, 1) + (kernel - 1) * _along(node, "dilations", axis, 1) + 1
        total = max(reach - inputs, 0)
        return total // 2 if mode == "SAME_UPPER" else total - total // 2
    return 0 if mode == "VALID" else _along(node, "pads", axis, 0)


def _along(node: ir.Node, attribute: str, axis: int, default: int) -> int:
    values = node.attributes.get_ints(attribute)
    return int(values[axis]) if values else default
