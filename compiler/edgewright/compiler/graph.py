"""The one graph of the compiler is `onnx_ir.Model`; this file reads facts from it and turns it into bytes and back.

Initializers are never graph inputs here (frontends lift them out), so `signature` is what a caller sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.bundle.manifest import Datatype

from .faults import UnsupportedModel

Graph = ir.Model

IR_VERSION = 10
"""Written into every shipped model: every engine in the supported range reads it, opset 23 included."""

DIGEST = "edgewright.digest"
"""Where a tensor keeps its digest, in memory only."""

V2_DATATYPES: dict[ir.DataType, Datatype] = {
    ir.DataType.BOOL: "BOOL",
    ir.DataType.UINT8: "UINT8",
    ir.DataType.UINT16: "UINT16",
    ir.DataType.UINT32: "UINT32",
    ir.DataType.UINT64: "UINT64",
    ir.DataType.INT8: "INT8",
    ir.DataType.INT16: "INT16",
    ir.DataType.INT32: "INT32",
    ir.DataType.INT64: "INT64",
    ir.DataType.FLOAT16: "FP16",
    ir.DataType.FLOAT: "FP32",
    ir.DataType.DOUBLE: "FP64",
}


OTHER_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
"""Floating point that runs as it is, and that is not quantized."""


@dataclass(frozen=True)
class Port:
    """One input or output of the graph."""

    name: str
    dtype: ir.DataType
    shape: tuple[int, ...]
    """-1 is free."""


@dataclass(frozen=True)
class Signature:
    """What a caller of the graph sees."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def signature(graph: Graph) -> Signature:
    """Names, types and shapes of inputs and outputs."""
    return Signature(
        inputs=tuple(_port(value, "input") for value in graph.graph.inputs),
        outputs=tuple(_port(value, "output") for value in graph.graph.outputs),
    )


def _port(value: ir.Value, role: str) -> Port:
    name = value.name or ""
    if value.dtype not in V2_DATATYPES or not isinstance(value.type, ir.TensorType):
        raise UnsupportedModel(
            f"{role} {name!r} has type {value.type}, but only plain numeric tensors can be served; "
            "change the model so that it takes and gives numeric tensors"
        )
    if value.shape is None:
        raise UnsupportedModel(f"{role} {name!r} has no shape; export the model with its {role} shapes declared")
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in value.shape)
    return Port(name=name, dtype=value.dtype, shape=shape)


def fixed_batch(graph: Graph) -> int | None:
    """The number of samples that every call takes, or None where the batch is free."""
    sizes = {port.shape[0] for port in signature(graph).inputs if port.shape}
    fixed = {size for size in sizes if size > 0}
    return min(fixed) if fixed else None


def to_proto(graph: Graph) -> onnx.ModelProto:
    """The graph as ONNX protobuf."""
    return ir.serde.serialize_model(graph)


def from_proto(proto: onnx.ModelProto) -> Graph:
    """The graph of an ONNX protobuf."""
    return ir.serde.deserialize_model(proto)


def to_bytes(graph: Graph) -> bytes:
    """Deterministic ONNX bytes: the same graph gives the same bytes."""
    return serialize(to_proto(graph))


def serialize(proto: onnx.ModelProto) -> bytes:
    """Deterministic bytes of a protobuf."""
    return bytes(proto.SerializeToString(deterministic=True))


def digest(content: bytes) -> str:
    """`sha256:…` of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def graph_digest(graph: Graph) -> str:
    """`sha256:…` of what a graph computes, of any size: its nodes in order with their names, and all its weights."""
    hashed = hashlib.sha256()
    for node in nodes(graph):
        names = [[value.name if value is not None else "" for value in side] for side in (node.inputs, node.outputs)]
        hashed.update(f"{node.domain}:{node.op_type}:{node.name}:{names}\n".encode())
        for _, attribute in sorted(node.attributes.items()):
            if attribute.type not in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}:
                hashed.update(ir.serde.serialize_attribute(attribute).SerializeToString(deterministic=True))
    for name, value in sorted(graph.graph.initializers.items()):
        if value.const_value is not None:
            hashed.update(f"{name}:{tensor_digest(value.const_value)}\n".encode())
    return f"sha256:{hashed.hexdigest()}"


def tensor_digest(tensor: ir.TensorProtocol) -> str:
    """SHA-256 of a weight's type, shape and values, as hexadecimal digits.

    Nothing alters a weight in place, and copies of a graph share theirs: so it is computed once and kept beside it.
    """
    known: str | None = tensor.meta.get(DIGEST)
    if known is None:
        hashed = hashlib.sha256(f"{tensor.dtype}:{tensor.shape}\n".encode())
        hashed.update(content_of(tensor))
        tensor.meta[DIGEST] = known = hashed.hexdigest()
    return known


def content_of(tensor: ir.TensorProtocol) -> memoryview | bytes:
    """A weight's bytes in a file; copied only where numpy holds them otherwise: 4-bit integers lie two in a byte."""
    if tensor.dtype == ir.DataType.STRING or tensor.dtype.bitwidth % 8:
        return tensor.tobytes()
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data


def add_weight(graph: Graph, name: str, array: NDArray[np.float32]) -> ir.Value:
    """A new float32 weight of the graph."""
    value = ir.Value(
        name=name,
        const_value=ir.tensor(array, name=name),
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(array.shape),
    )
    graph.graph.register_initializer(value)
    return value


def clone(graph: Graph) -> Graph:
    """A copy whose nodes and values are its own; weights are shared, which nothing alters in place."""
    return graph.clone()


def nodes(graph: Graph) -> Iterator[ir.Node]:
    """Every node, those of subgraphs and functions included."""
    yield from ir.traversal.RecursiveGraphIterator(graph.graph)
    for function in graph.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)


def place(node: ir.Node) -> str:
    """Where a node is, in words that a person can search for in a viewer."""
    name = node.name or "(no name)"
    outputs = ", ".join(value.name for value in node.outputs if value.name)
    return f"node {name!r} (gives {outputs or 'nothing that has a name'})"


def operator_counts(graph: Graph) -> dict[str, int]:
    """How often each operator occurs, sorted by name."""
    counts: dict[str, int] = {}
    for node in nodes(graph):
        key = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items()))


def is_quantized(graph: Graph) -> bool:
    """Whether the model came with integer arithmetic of its own."""
    return any("QuantizeLinear" in node.op_type or node.op_type.startswith("QLinear") for node in nodes(graph))
