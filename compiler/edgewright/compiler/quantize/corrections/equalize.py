"""Cross-layer equalisation: brings the channel ranges of neighbouring weights together, and applies such factors.

Source: Nagel, van Baalen, Blankevoort, Welling: Data-Free Quantization Through Weight Equalization and Bias Correction,
2019, arXiv:1906.04721, section 4.1. With factors s, weights W1 and W2 become W1 / s and W2 * s, which is the same
function as long as everything between them is positively homogeneous (`links.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...faults import ModelError
from ...graph import Graph, add_weight, clone
from ..plan import Equalization
from ..weights import weight_array
from .links import PRODUCTS, Link, constant, constant_operand, find_link, find_links
from .weight_layout import by_channel, divide_outputs, groups, multiply_inputs

SMALLEST_FACTOR = 1e-3
LARGEST_FACTOR = 1e3
"""Beyond these a channel is as good as dead, and floats would lose what they hold."""
MAX_SWEEPS = 40
CONVERGED = 0.01
"""Largest relative change of a factor in one sweep over all links that counts as none."""


class _Ranges:
    """Largest magnitude between each pair of channels of one product, under the factors found so far."""

    def __init__(self, node: ir.Node) -> None:
        weight = weight_array(node)
        if weight is None:
            raise TypeError(f"{node.name!r} has no constant weight")
        self._magnitudes = np.abs(by_channel(node, weight)).max(axis=3).astype(np.float64)
        self._groups = groups(node)

    def of_outputs(self) -> NDArray[np.float64]:
        peaks: NDArray[np.float64] = self._magnitudes.max(axis=2)
        return peaks.reshape(-1)

    def of_inputs(self) -> NDArray[np.float64]:
        peaks: NDArray[np.float64] = self._magnitudes.max(axis=1)
        return peaks.reshape(-1)

    def divide_outputs(self, factors: NDArray[np.float64]) -> None:
        self._magnitudes /= factors.reshape(self._groups, -1, 1)

    def multiply_inputs(self, factors: NDArray[np.float64]) -> None:
        self._magnitudes *= factors.reshape(self._groups, 1, -1)


def find_equalizations(graph: Graph) -> tuple[Equalization, ...]:
    """Factors from the weights alone, swept over all pairs of products until they no longer change.

    Links that start at a normalisation are left to `smooth.py`, and weights with values that are not finite alone.
    """
    links = [link for link in find_links(graph) if link.producer.op_type in PRODUCTS and _finite(link)]
    ranges = {node: _Ranges(node) for link in links for node in (link.producer, *link.consumers)}
    factors = [np.ones(link.channels) for link in links]
    for _ in range(MAX_SWEEPS):
        change = 0.0
        for index, link in enumerate(links):
            step = _step(link, ranges, factors[index])
            factors[index] = factors[index] * step
            ranges[link.producer].divide_outputs(step)
            for consumer in link.consumers:
                ranges[consumer].multiply_inputs(step)
            change = max(change, float(np.abs(np.log(step)).max()))
        if change < CONVERGED:
            break
    return tuple(equalization(link, found) for link, found in zip(links, factors, strict=True))


def _finite(link: Link) -> bool:
    weights = (weight_array(node) for node in (link.producer, *link.consumers))
    return all(weight is not None and weight.size > 0 and bool(np.isfinite(weight).all()) for weight in weights)


def _step(link: Link, ranges: dict[ir.Node, _Ranges], so_far: NDArray[np.float64]) -> NDArray[np.float64]:
    """What brings both sides to the same range now; 1 for channels that are dead on either side."""
    made = ranges[link.producer].of_outputs()
    read = np.maximum.reduce([ranges[consumer].of_inputs() for consumer in link.consumers])
    alive = (made > 0) & (read > 0)
    step = np.sqrt(np.where(alive, made, 1.0) / np.where(alive, read, 1.0))
    return np.clip(so_far * step, SMALLEST_FACTOR, LARGEST_FACTOR) / so_far


def equalization(link: Link, factors: NDArray[np.float64]) -> Equalization:
    """A link and its factors as part of a plan; factors (channels,) are rounded to float32."""
    return Equalization(
        producer=link.producer.name or "",
        consumers=tuple(node.name or "" for node in link.consumers),
        factors=tuple(float(factor) for factor in factors.astype(np.float32)),
    )


def equalized(graph: Graph, equalizations: Sequence[Equalization]) -> Graph:
    """A copy of the graph with all factors moved; the same function up to the rounding of float32.

    Raises:
        ModelError: an equalisation does not fit the graph: no such node, other neighbours, or another channel count.
    """
    result = clone(graph)
    by_name = {node.name: node for node in result.graph}
    for entry in equalizations:
        link = _checked_link(by_name.get(entry.producer), entry)
        factors = np.asarray(entry.factors, dtype=np.float64)
        _divide(result, link.producer, factors)
        for offset in link.offsets:
            _divide_constant(result, offset, constant_operand(offset) or 0, factors)
        for consumer in link.consumers:
            _multiply(result, consumer, factors)
    return result


def _checked_link(producer: ir.Node | None, entry: Equalization) -> Link:
    link = None if producer is None else find_link(producer)
    remedy = "make the plan again for this model, or take the entry out of it"
    if link is None:
        why = "is not in the model" if producer is None else "has readers through which no factor can move"
        raise ModelError(f"equalization of {entry.producer!r}: this node {why}; {remedy}")
    consumers = tuple(node.name or "" for node in link.consumers)
    if sorted(consumers) != sorted(entry.consumers):
        raise ModelError(
            f"equalization of {entry.producer!r}: its consumers in the model are {', '.join(consumers)}, "
            f"the plan has {', '.join(entry.consumers)}; {remedy}"
        )
    if len(entry.factors) != link.channels:
        raise ModelError(
            f"equalization of {entry.producer!r}: expected {link.channels} factors, one per channel, "
            f"got {len(entry.factors)}; {remedy}"
        )
    return link


def _divide(graph: Graph, node: ir.Node, factors: NDArray[np.float64]) -> None:
    """Divides what the node makes: its weight, or its scale, and its bias."""
    if node.op_type == "Mul":
        _divide_constant(graph, node, constant_operand(node) or 0, factors)
        return
    weight = weight_array(node)
    if node.op_type in PRODUCTS and weight is not None:
        _replace(graph, node, 1, divide_outputs(node, weight, factors))
    else:
        _divide_constant(graph, node, 1, factors)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        _divide_constant(graph, node, 2, factors)


def _divide_constant(graph: Graph, node: ir.Node, index: int, factors: NDArray[np.float64]) -> None:
    """Divides along the last axis; a constant that is the same for all channels gets one number for each."""
    array = constant(node.inputs[index])
    if array is None:
        raise TypeError(f"input {index} of {node.name!r} is no constant")
    _replace(graph, node, index, (array / factors).astype(np.float32))


def _multiply(graph: Graph, node: ir.Node, factors: NDArray[np.float64]) -> None:
    weight = weight_array(node)
    if weight is None:
        raise TypeError(f"{node.name!r} has no constant weight")
    _replace(graph, node, 1, multiply_inputs(node, weight, factors))


def _replace(graph: Graph, node: ir.Node, index: int, array: NDArray[np.float32]) -> None:
    """Gives the node a constant of its own; other readers of the old one keep it."""
    old = node.inputs[index]
    name = f"{node.name}_{index}_equalized"
    known = graph.graph.initializers.get(name)
    if known is not None and known is old:
        known.const_value = ir.tensor(array, name=name)
        known.shape = ir.Shape(array.shape)
        return
    node.replace_input_with(index, add_weight(graph, name, array))
    if old is not None and old.is_initializer() and not old.uses() and not old.is_graph_output():
        graph.graph.initializers.pop(old.name or "")
