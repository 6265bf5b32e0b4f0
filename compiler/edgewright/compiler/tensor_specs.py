"""Inputs and outputs of a graph as a bundle's manifest describes them to clients."""

from __future__ import annotations

from edgewright.bundle.manifest import TensorSpec

from .graph import V2_DATATYPES, Graph, Port, signature

CHANNELS = frozenset({1, 3, 4})
"""Sizes by which a picture's channel axis is recognised."""


def tensor_specs(graph: Graph) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs as a client sees them."""
    found = signature(graph)
    return tuple(_spec(port) for port in found.inputs), tuple(_spec(port) for port in found.outputs)


def _spec(port: Port) -> TensorSpec:
    return TensorSpec(name=port.name, datatype=V2_DATATYPES[port.dtype], shape=port.shape, layout=layout(port.shape))


def layout(shape: tuple[int, ...]) -> str | None:
    """NCHW or NHWC where the shape leaves no doubt."""
    if len(shape) != 4:
        return None
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first == last:
        return None
    return "NCHW" if first else "NHWC"
