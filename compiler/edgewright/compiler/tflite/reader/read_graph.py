"""A TFLite model as a graph: the operators of ONNX that mean the same, quantizers where the file has integers.

A quantized tensor becomes QuantizeLinear and DequantizeLinear behind the operator that makes it and its clamp; a
constant stays in integers, DequantizeLinear behind it. That is what the emitter takes back as one operator. Integer
inputs and outputs stay integers, and every shape that the file declares is compared with the one that follows.
"""

from __future__ import annotations

from math import prod

import onnx
from onnx import helper

from ...faults import ModelError, UnsupportedModel
from ...frontends.onnx import import_proto
from ...graph import IR_VERSION, Graph
from .. import hybrid
from ..file.model import ABSENT, Model, Operator
from .check import check_declared, check_types
from .dilated import planned
from .draft import Draft
from .operators import OPERATORS
from .operators.conversions import ONNX_TYPES
from .reading import Reading
from .step import Step

ETHOS_U = "ethos-u"
"""The custom operator in which Vela writes its command streams."""
OPSET = 21
"""The first with quantizers of 16 bits and with all operators that TFLite has too; within `frontends/opset.py`."""
MAX_ACTIVATION_ELEMENTS = 1 << 28
"""Of one tensor that is computed: 1 GiB of floats."""


def graph_of(model: Model, name: str) -> Graph:
    """The graph of a model; `name` names the file in messages.

    Raises:
        ModelError: the file contradicts itself.
        UnsupportedModel: an operator, or a use of one, that has no form here.
    """
    _check(model, name)
    reading = Reading(model, Draft(name), _has_free_batch(model))
    inputs = [_input(reading, port.name, port.tensor) for port in model.inputs]
    reading.draft.reserve(port.name for port in model.outputs)
    for each in planned(model):
        _read(Step(reading, each.operator, each.index, each.pads))
    outputs = _outputs(reading)
    proto = helper.make_model(
        helper.make_graph(reading.draft.nodes, "tflite", inputs, outputs, reading.draft.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    check_types(proto, name)
    graph = import_proto(proto, name)
    check_declared(graph, reading)
    for node in graph.graph:
        if node.outputs[0].name in reading.hybrid:
            hybrid.mark(node)
    return graph


def _check(model: Model, name: str) -> None:
    """What must be right before anything is read."""
    if not model.operators or not model.outputs:
        raise ModelError(f"{name}: the model has no operators or no outputs; export the trained model")
    names = [port.name for port in (*model.inputs, *model.outputs)]
    if len(set(names)) != len(names) or "" in names:
        raise ModelError(f"{name}: inputs and outputs need different names, found {', '.join(map(repr, names))[:300]}")
    if len({port.tensor for port in model.inputs}) != len(model.inputs):
        raise ModelError(f"{name}: one tensor is several inputs; export the model again")
    for tensor in model.tensors:
        if tensor.variable:
            raise UnsupportedModel(
                f"{name}: tensor {tensor.name!r} keeps its value between calls; export the model without states"
            )
        if tensor.data is None and prod(tensor.shape) > MAX_ACTIVATION_ELEMENTS:
            raise UnsupportedModel(
                f"{name}: tensor {tensor.name!r} of shape {tensor.shape} has more than {MAX_ACTIVATION_ELEMENTS} "
                "elements; check the model's sizes"
            )


def _has_free_batch(model: Model) -> bool:
    """Whether callers may choose the batch: all inputs say so, and no shape is written out for one sample."""
    tensors = model.tensors
    fixed = any(operator.type == "RESHAPE" and _fixes(model, operator) for operator in model.operators)
    free = [tensors[port.tensor].free[:1] == (-1,) and tensors[port.tensor].shape[0] == 1 for port in model.inputs]
    return bool(free) and all(free) and not fixed


def _fixes(model: Model, operator: Operator) -> bool:
    """Whether a RESHAPE of something computed has no size left open."""
    if not operator.inputs or operator.inputs[0] == ABSENT or model.tensors[operator.inputs[0]].data is not None:
        return False
    index = operator.inputs[1] if len(operator.inputs) > 1 else ABSENT
    shape = model.tensors[index].data if index != ABSENT else None
    if index != ABSENT and shape is None:
        return False
    sizes = operator.options.get("newShape", ()) if shape is None else tuple(shape.reshape(-1)[:8])
    return not isinstance(sizes, tuple) or -1 not in sizes


def _input(reading: Reading, name: str, index: int) -> onnx.ValueInfoProto:
    tensor = reading.model.tensors[index]
    if tensor.data is not None:
        raise ModelError(f"{reading.draft.where}: input {name!r} is a constant; export the model again")
    sizes = reading.sizes(index)
    shape = [size if size is not None else "batch" if axis == 0 else f"{name}_{axis}"
             for axis, size in enumerate(sizes)]  # fmt: skip
    reading.draft.reserve([name])
    reading.take(index, name)
    return helper.make_tensor_value_info(name, ONNX_TYPES[tensor.type], shape)


def _read(step: Step) -> None:
    operator = step.operator
    row = OPERATORS.get(operator.type)
    if row is None:
        if operator.type == "CUSTOM" and operator.custom == ETHOS_U:
            step.refuse("Vela has compiled this file for an Ethos-U already", "give the file that went into Vela")
        name = f"custom operator {operator.custom!r}" if operator.type == "CUSTOM" else "operator"
        step.refuse(f"this {name} is not read", "replace it by others in the model, or export the model as ONNX")
    present = sum(index != ABSENT for index in operator.inputs)
    if not row.least <= present or len(operator.inputs) > row.most:
        step.wrong(f"it has {len(operator.inputs)} inputs, expected {row.least} to {row.most}")
    if not 1 <= len(operator.outputs) <= row.outputs or len(set(operator.outputs)) != len(operator.outputs):
        step.wrong(f"it has {len(operator.outputs)} outputs, expected 1 to {row.outputs}")
    row.read(step)


def _outputs(reading: Reading) -> list[onnx.ValueInfoProto]:
    """The outputs under their names; shapes follow from the operators."""
    done: set[int] = set()
    found = []
    for port in reading.model.outputs:
        named = None if port.tensor in done else reading.rename(port.tensor, port.name)
        if named is None:
            copied = reading.draft.node("Identity", [reading.stored(port.tensor)], port.name)
            reading.draft.named(copied, port.name)
        done.add(port.tensor)
        tensor = reading.model.tensors[port.tensor]
        ranks = [None] * len(tensor.shape)
        found.append(helper.make_tensor_value_info(port.name, ONNX_TYPES[tensor.type], ranks))
    return found
