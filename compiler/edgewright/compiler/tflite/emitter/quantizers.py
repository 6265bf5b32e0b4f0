"""QuantizeLinear and DequantizeLinear: what they say of values, and what is written where no operator took them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from ...attributes import needed
from .encodings import Encoding, encoding_given, encoding_of
from .walk import Placed, Stored, Walk


def encoding_at(walk: Walk, value: ir.Value) -> Encoding | None:
    """Of what a QuantizeLinear gives, or of a dequantized value; None for others."""
    producer = value.producer()
    if producer is not None and producer.op_type == "QuantizeLinear":
        return encoding_given(producer, len(value.shape or ()))
    return walk.encoding(value) if value.name else None


def keep_integers(walk: Walk, node: ir.Node) -> None:
    """Notes in which integers the result of a DequantizeLinear on a constant came."""
    integers = walk.constant(needed(node, 0))
    encoding = None if integers is None else encoding_of(node, integers.dtype.name, integers.ndim)
    if integers is not None and encoding is not None:
        walk.give_stored(node.outputs[0], Stored(integers, encoding))


def dequantize(walk: Walk, node: ir.Node) -> None:
    """Notes what integers mean; DEQUANTIZE is written where someone reads them as floats.

    Raises:
        UnsupportedModel: the scales have no form in TFLite.
    """
    source = needed(node, 0)
    kind = str(source.dtype.numpy()) if source.dtype is not None else "uint8"
    encoding = encoding_of(node, kind, len(source.shape or ()))
    if encoding is None:
        walk.refuse(node, "its scales are not constant, or in blocks", "quantize the model per tensor or channel")
    _check_middle(walk, node, encoding)
    placed = walk.place(source)
    if walk.draft.tensors[placed.tensor].quantization is None:
        _explain_input(walk, source, placed, encoding)
        placed = walk.place(source)
    if walk.draft.tensors[placed.tensor].quantization == encoding.quantization:
        walk.give_dequantized(node.outputs[0], source, encoding)
    else:
        _mean_otherwise(walk, node.outputs[0], placed, encoding)


def _mean_otherwise(walk: Walk, value: ir.Value, placed: Placed, encoding: Encoding) -> None:
    """The same integers under another scale or zero point: a tensor has one of each, so they are made floats.

    With q = (x / s) + z, what they mean by the other scale t and zero point u is x * (t / s) + (z - u) * t.
    """
    tensor = walk.draft.tensors[placed.tensor]
    own, other = tensor.quantization, encoding.quantization
    if own is None or len(own.scales) > 1 or len(other.scales) > 1:
        raise ValueError(f"{tensor.name!r} has a scale per channel, which activations never have here")
    x = walk.draft.tensor(f"{tensor.name}_floats", "FLOAT32", tensor.shape)
    walk.emit("DEQUANTIZE", (placed.tensor,), (x,))
    factor = np.float32(other.scales[0] / own.scales[0])
    offset = np.float32((own.zero_points[0] - other.zero_points[0]) * other.scales[0])
    for operator, number in (("MUL", factor), ("ADD", offset)):
        if operator == "MUL" or number:
            y = walk.draft.tensor(value.name or "", "FLOAT32", tensor.shape)
            walk.emit(
                operator, (x, walk.draft.constant("number", np.asarray([number]))), (y,), fusedActivationFunction=0
            )
            x = y
    walk.give(value, x, placed.order)


def _explain_input(walk: Walk, source: ir.Value, placed: Placed, encoding: Encoding) -> None:
    """An input of integers learns its scale from the first that dequantizes it; unsigned ones are made signed."""
    tensor = walk.draft.tensors[placed.tensor]
    zero_points = tuple(zero + encoding.shift for zero in encoding.quantization.zero_points)
    as_given = replace(encoding.quantization, zero_points=zero_points)
    walk.draft.tensors[placed.tensor] = replace(tensor, quantization=as_given)
    if encoding.shift:
        made = walk.draft.tensor(f"{tensor.name}_signed", encoding.type, tensor.shape, encoding.quantization)
        walk.emit("QUANTIZE", (placed.tensor,), (made,))
        walk.give(source, made, placed.order)


def quantize(walk: Walk, node: ir.Node) -> None:
    """Rounds a value that no operator rounds on its own.

    Raises:
        UnsupportedModel: the scale has no form in TFLite.
    """
    source, encoding = needed(node, 0), encoding_at(walk, node.outputs[0])
    if encoding is None or len(encoding.quantization.scales) > 1:
        walk.refuse(node, "its scale is not one constant", "quantize activations with one scale per tensor")
    _check_middle(walk, node, encoding)
    walk.keep_features(source, node.outputs[0])
    placed = walk.place(source, integer=walk.encoding(source) is not None)
    tensor = walk.draft.tensors[placed.tensor]
    if tensor.quantization == encoding.quantization and tensor.type == encoding.type:
        walk.give(node.outputs[0], placed.tensor, placed.order)
        return
    made = walk.draft.tensor(node.outputs[0].name or "", encoding.type, tensor.shape, encoding.quantization)
    walk.emit("QUANTIZE", (placed.tensor,), (made,))
    walk.give(node.outputs[0], made, placed.order)


def share_results(walk: Walk, results: Iterable[ir.Value], node: ir.Node) -> None:
    """Where quantizers behind a node say the same twice, the second gives the tensor of the first."""
    for result in results:
        producer = result.producer()
        source = producer.inputs[0] if producer is not None and producer is not node else None
        for use in list(source.uses()) if source is not None else []:
            twin = use.node.outputs[0]
            if twin is not result:
                placed = walk.place(result)
                walk.give(twin, placed.tensor, placed.order)


def _check_middle(walk: Walk, node: ir.Node, encoding: Encoding) -> None:
    """TFLite's kernels of 16-bit integers read no zero point."""
    middle = encoding.quantization.zero_points[0] + encoding.shift
    if encoding.kind == "int16" and any(encoding.quantization.zero_points):
        walk.refuse(
            node,
            f"its 16-bit integers mean 0 at {middle}, and TFLite's do at {encoding.shift} alone",
            "quantize 16-bit activations symmetrically",
        )
