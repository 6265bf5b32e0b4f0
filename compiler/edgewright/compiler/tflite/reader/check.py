"""Compares what a file declares of its tensors with what follows from its operators."""

from __future__ import annotations

import onnx
import onnx.shape_inference
import onnx_ir as ir
from onnx import helper

from ...faults import ModelError, first_line
from ...graph import Graph
from .operators.conversions import ONNX_TYPES
from .reading import Reading

LARGEST_PARAMETER_BYTES = 1024
"""Constants up to this size may say shapes and axes; larger ones have no say in what follows."""


def check_types(proto: onnx.ModelProto, where: str) -> None:
    """Raises where an operator gets types or shapes that it does not take.

    Raises:
        ModelError: the message is that of the onnx package.
    """
    large = [each for each in proto.graph.initializer if len(each.raw_data) > LARGEST_PARAMETER_BYTES]
    inputs = [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in large]
    small = [each for each in proto.graph.initializer if len(each.raw_data) <= LARGEST_PARAMETER_BYTES]
    graph = helper.make_graph(proto.graph.node, "types", [*proto.graph.input, *inputs], proto.graph.output, small)
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # inference has exception classes of its own, and raises others on damaged files
        raise ModelError(
            f"{where}: its operators do not fit its tensors: {first_line(error)}; the file is damaged, export it again"
        ) from error


def check_declared(graph: Graph, reading: Reading) -> None:
    """Raises where an operator gives another shape or type than the file says: kernels trust what it says.

    Raises:
        ModelError: the message names the tensor.
    """
    for node in graph.graph:
        for value in node.outputs:
            found = reading.declared.get(value.name or "")
            if found is not None:
                _check(value, reading, *found)


def _check(value: ir.Value, reading: Reading, index: int, order: tuple[int, ...]) -> None:
    tensor, sizes = reading.model.tensors[index], reading.sizes(index)
    wanted = [sizes[axis] for axis in order]
    shape = None if value.shape is None else [size if isinstance(size, int) else None for size in value.shape]
    fits = shape is None or (
        len(shape) == len(wanted) and all(a == b or a is None or b is None for a, b in zip(shape, wanted, strict=True))
    )
    kind = ONNX_TYPES[tensor.type]
    if not fits or (value.dtype is not None and int(value.dtype) != kind):
        raise ModelError(
            f"{reading.draft.where}: tensor {tensor.name!r} is declared as {tensor.type} {tensor.shape}, but what "
            f"makes it gives {value.dtype} {tuple(shape or ())} (axes {order}); the file is damaged, export it again"
        )
