"""Walks a graph in the order of its nodes and lowers every one."""

from __future__ import annotations

import onnx_ir as ir

from ....faults import UnsupportedModel
from ....folding import folded, is_known
from ....graph import Graph, place
from ..net import Alias, Move, Net, Part, Tensor
from ..rebuild import substituted
from .integers import fuse_qdq
from .operators import OPERATORS
from .walk import DTYPES, Walk, identity


def lower(graph: Graph, batch: int) -> Net:
    """The graph as a net for one batch size: it becomes the first axis of every input where that is free.

    Raises:
        UnsupportedModel: an operator, a type or a shape that has no native form; the message names it and says what
            helps.
    """
    graph = fuse_qdq(graph)
    opset = graph.opset_imports.get("", 17)
    walk = Walk(opset=opset)
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        walk.reserve(value.name or "")
    inputs = tuple(_input(walk, value, batch) for value in graph.graph.inputs)
    for node in graph.graph:
        walk.origin = node.name or node.op_type
        _lower_node(walk, node)
    return _closed(walk, inputs, tuple(graph.graph.outputs))


def _input(walk: Walk, value: ir.Value, batch: int) -> Tensor:
    if value.dtype not in DTYPES or value.shape is None:
        raise UnsupportedModel(
            f"input {value.name!r} is {value.dtype} of shape {value.shape}; native code takes float32, integers and "
            "booleans of a known shape: convert the model"
        )
    sizes = [dim if isinstance(dim, int) else None for dim in value.shape]
    if sizes and sizes[0] is None:
        sizes[0] = batch
    if any(size is None for size in sizes):
        raise UnsupportedModel(
            f"input {value.name!r} has shape {value.shape}: only the first dimension may be free in native code; "
            "fix the others when you export the model"
        )
    if 0 in sizes:
        raise UnsupportedModel(
            f"input {value.name!r} has shape {value.shape} and holds no elements; leave it out, or give it a size"
        )
    tensor = Tensor(value.name or "", tuple(size for size in sizes if size is not None), DTYPES[value.dtype])
    walk.give(value, tensor, identity(len(tensor.shape)))
    return tensor


def _lower_node(walk: Walk, node: ir.Node) -> None:
    operator = OPERATORS.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
    if is_known(node, walk.constant):
        found = folded(node, walk.constant, walk.shape, walk.opset)
        for value in node.outputs:
            if value.name in found:
                walk.give_constant(value, found[value.name])
    elif operator is None:
        name = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
        raise UnsupportedModel(
            f"{name} at {place(node)}: native code has no such operator; compile for another engine of the target"
        )
    else:
        operator(walk, node)


def _closed(walk: Walk, inputs: tuple[Tensor, ...], values: tuple[ir.Value, ...]) -> Net:
    """The net, with every output in its own tensor under its own name."""
    walk.origin = "outputs"
    taken = {tensor.name for tensor in inputs}
    renamed: dict[str, Tensor] = {}
    outputs = []
    for value in values:
        made, output = _output(walk, value, inputs)
        root = _root(walk, made)
        if root in taken:
            walk.emit(_copy(made, output, walk.origin))
        else:
            renamed[made.name] = output
        taken.add(root)
        outputs.append(output)
    return substituted(Net(inputs, tuple(outputs), tuple(walk.layers)), renamed)


def _output(walk: Walk, value: ir.Value, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The tensor that holds an output, and the one that the caller gives."""
    name = value.name or ""
    if name in {tensor.name for tensor in inputs}:
        raise UnsupportedModel(f"output {name!r} is an input of the graph; put an Identity between them")
    made = walk.read(value, identity(len(walk.shape(value))))
    return made, Tensor(name, made.shape, made.dtype)


def _root(walk: Walk, tensor: Tensor) -> str:
    """The name of the tensor whose bytes these are."""
    sources = {layer.y.name: layer.x.name for layer in walk.layers if isinstance(layer, Alias)}
    root = tensor.name
    while root in sources:
        root = sources[root]
    return root


def _copy(x: Tensor, y: Tensor, origin: str) -> Move:
    return Move(y=y, parts=(Part(x=x, extents=x.shape, x_strides=x.strides, y_strides=y.strides),), origin=origin)
