"""Folds `(x - mean) * scale` into the model, so that a device sends raw bytes: the input becomes UINT8 (or INT8)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.targets.board import Board

from ..faults import DataError
from ..graph import Graph, add_weight
from ..passes import Evidence, Options, Pass


class Normalization(Options, frozen=True, kw_only=True):
    """One number for all, or one per channel."""

    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    datatype: str = "UINT8"
    """Of the raw input: `UINT8` or `INT8`."""


RAW_TYPES = {"UINT8": ir.DataType.UINT8, "INT8": ir.DataType.INT8}


class FoldInputNormalization(Pass[Normalization]):
    """The graph starts with Cast, Sub and Mul; its only input keeps its name."""

    name = "fold-input-normalization"
    changes_signature = True

    def requires(self, graph: Graph, options: Normalization) -> None:
        inputs = graph.graph.inputs
        if len(inputs) != 1:
            raise DataError(
                f"--mean and --scale need a model with one input, this has {len(inputs)}; fold it before exporting"
            )
        if inputs[0].dtype != ir.DataType.FLOAT or inputs[0].shape is None:
            raise DataError(f"--mean and --scale need a float32 input, {inputs[0].name!r} is {inputs[0].dtype}")
        if 0.0 in options.scale:
            raise DataError(
                "--scale 0 makes every input the same; give the factor that brings bytes to what the model takes"
            )
        for option, values in (("--mean", options.mean), ("--scale", options.scale)):
            if len(values) > 1:
                channel_axis(inputs[0], len(values), option)

    def apply(self, graph: Graph, options: Normalization, target: Board | None) -> tuple[Graph, Evidence]:
        del target
        old = graph.graph.inputs[0]
        raw = ir.Value(name=old.name, type=ir.TensorType(RAW_TYPES[options.datatype]), shape=old.shape)
        old.name = f"{raw.name}_normalized"
        cast = ir.node("Cast", [raw], {"to": int(ir.DataType.FLOAT)}, name="edgewright_cast")
        mean = _constant(graph, old, options.mean, "edgewright_mean")
        scale = _constant(graph, old, options.scale, "edgewright_scale")
        sub = ir.node("Sub", [cast.outputs[0], mean], name="edgewright_sub")
        mul = ir.node("Mul", [sub.outputs[0], scale], name="edgewright_mul")
        for node in (cast, sub, mul):
            node.outputs[0].name = f"{node.name}_out"
            node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), old.shape
        graph.graph.inputs[0] = raw
        ir.convenience.replace_all_uses_with(old, mul.outputs[0])
        graph.graph.insert_before(graph.graph[0], [cast, sub, mul])
        return graph, {
            "mean": ",".join(f"{value:g}" for value in options.mean),
            "scale": ",".join(f"{value:g}" for value in options.scale),
        }


def channel_axis(value: ir.Value, channels: int, option: str) -> int:
    """Where the channels are: axis 1 (NCHW) if its size fits, else the last (NHWC)."""
    shape = [] if value.shape is None else list(value.shape)
    if len(shape) >= 2 and shape[1] == channels:
        return 1
    if len(shape) >= 2 and shape[-1] == channels:
        return len(shape) - 1
    raise DataError(
        f"{option} has {channels} values, but no channel axis of input {value.name!r} {shape} has that size"
    )


def _constant(graph: Graph, value: ir.Value, numbers: tuple[float, ...], name: str) -> ir.Value:
    array = np.asarray(numbers, dtype=np.float32)
    if len(numbers) > 1:
        rank = 0 if value.shape is None else len(value.shape)
        shape = [1] * rank
        shape[channel_axis(value, len(numbers), name)] = len(numbers)
        array = array.reshape(shape)
    else:
        array = array.reshape(())
    return add_weight(graph, name, array)
