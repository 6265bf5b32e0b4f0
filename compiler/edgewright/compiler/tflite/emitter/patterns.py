"""Operators that exporters and the optimiser wrote as several nodes, and that TFLite has as one.

Found in float graphs and, where no quantizer stands between the nodes, in QDQ graphs. So a plan that treats the nodes
as one operator becomes one operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from ...attributes import number

TOLERANCE: Final = 1e-6
"""Relative; constants are float32."""
MAX_DEPTH: Final = 5
"""Nodes between the first and the last one of a pattern."""


@dataclass(frozen=True)
class Pattern:
    """Nodes that are one function of one value."""

    op_type: str
    """The ONNX operator that they are."""
    nodes: tuple[ir.Node, ...]
    """The last one gives the result; nobody else reads what the others give."""
    source: ir.Value

    @property
    def result(self) -> ir.Value:
        """What the last node gives."""
        return self.nodes[-1].outputs[0]


def pattern_ending_at(node: ir.Node) -> Pattern | None:
    """The pattern whose result a node gives."""
    if node.op_type != "Mul" or node.domain not in ("", "ai.onnx"):
        return None
    for find in _FINDERS:
        found = find(node)
        if found is not None and all(_only_read_within(inner, found) for inner in found.nodes[:-1]):
            return found
    return None


def pattern_with(node: ir.Node) -> Pattern | None:
    """The pattern that a node is part of."""
    waiting = [(node, 0)]
    while waiting:
        each, depth = waiting.pop()
        found = pattern_ending_at(each)
        if found is not None and any(node is part for part in found.nodes):
            return found
        uses = [use.node for value in each.outputs for use in value.uses()]
        if depth < MAX_DEPTH and len(uses) == 1:
            waiting.append((uses[0], depth + 1))
    return None


def _hard_swish(node: ir.Node) -> Pattern | None:
    """The product x * HardSigmoid(x) with slope 1/6 and offset 1/2 (ONNX operators, HardSwish-14)."""
    for source, gate in _both_ways(node):
        maker = gate.producer()
        if maker is None or maker.op_type != "HardSigmoid" or maker.inputs[0] is not source:
            continue
        if _near(number(maker, "alpha", 0.2), 1 / 6) and _near(number(maker, "beta", 0.5), 0.5):
            return Pattern("HardSwish", (maker, node), source)
    return None


def _gelu(node: ir.Node) -> Pattern | None:
    """The product x * (1 + erf(x / sqrt 2)) / 2; x, the sum or the product may be halved (ONNX operators, Gelu-20)."""
    return _half_of_all(node) or _half_of_a_factor(node)


def _half_of_all(node: ir.Node) -> Pattern | None:
    for product, half in _both_ways(node):
        maker = product.producer()
        if maker is None or maker.op_type != "Mul" or not _is_number(half, 0.5):
            continue
        for source, gate in _both_ways(maker):
            parts = _one_plus_erf(gate, source)
            if parts is not None:
                return Pattern("Gelu", (*parts, maker, node), source)
    return None


def _half_of_a_factor(node: ir.Node) -> Pattern | None:
    for left, right in _both_ways(node):
        maker = left.producer()
        if maker is None or maker.op_type != "Mul":
            continue
        for inner, half in _both_ways(maker):
            if not _is_number(half, 0.5):
                continue
            parts = _one_plus_erf(right, inner)
            if parts is not None:
                return Pattern("Gelu", (*parts, maker, node), inner)
            parts = _one_plus_erf(inner, right)
            if parts is not None:
                return Pattern("Gelu", (*parts, maker, node), right)
    return None


def _one_plus_erf(value: ir.Value, source: ir.Value) -> tuple[ir.Node, ...] | None:
    """The nodes of 1 + erf(source / sqrt 2)."""
    total = value.producer()
    if total is None or total.op_type != "Add":
        return None
    for inner, one in _both_ways(total):
        erf = inner.producer()
        argument = erf.inputs[0] if erf is not None and erf.op_type == "Erf" else None
        scaled = None if argument is None else argument.producer()
        if erf is None or scaled is None or not _is_number(one, 1.0):
            continue
        if _is_quotient(scaled, source, np.sqrt(2.0)):
            return scaled, erf, total
    return None


def _is_quotient(node: ir.Node, source: ir.Value, divisor: float) -> bool:
    """Whether a node divides by a number, or multiplies by its inverse."""
    if node.op_type == "Div":
        return node.inputs[0] is source and _is_number(node.inputs[1], divisor)
    return node.op_type == "Mul" and any(
        value is source and _is_number(factor, 1 / divisor) for value, factor in _both_ways(node)
    )


_FINDERS: Final[tuple[Callable[[ir.Node], Pattern | None], ...]] = (_hard_swish, _gelu)


def _both_ways(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """The two inputs of a commutative operator, in either order."""
    left, right = node.inputs[0], node.inputs[1]
    if left is not None and right is not None:
        yield left, right
        yield right, left


def _only_read_within(node: ir.Node, pattern: Pattern) -> bool:
    return all(
        not value.is_graph_output() and all(any(use.node is part for part in pattern.nodes) for use in value.uses())
        for value in node.outputs
    )


def _is_number(value: ir.Value | None, expected: float) -> bool:
    if value is None or value.const_value is None or value.const_value.size != 1:
        return False
    return _near(float(value.const_value.numpy().reshape(())), expected)


def _near(found: float, expected: float) -> bool:
    return abs(found - expected) <= TOLERANCE * abs(expected)
