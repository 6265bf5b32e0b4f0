"""Operators of a plan that are switched together, and tensors that are rounded as one.

A group is an operator that computes, with the movements behind it: they hand on what they were given, so that there is
nothing to choose for them. Tensors that a movement connects share their numbers; their rounding is one source of noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from ..graph import Graph
from ..quantize.capability import MOVEMENTS, absorbed_activation, activations_of
from ..quantize.plan import Plan

INTEGER = frozenset({"int8", "int16"})


@dataclass(frozen=True)
class Group:
    """Operators that are switched together."""

    name: str
    """Of the operator that computes."""
    operators: tuple[str, ...]
    """Names of nodes, in the graph's order."""
    roundings: tuple[str, ...]
    """Names of the roundings that are chosen with this group: of its results, and of inputs that no group makes."""


@dataclass(frozen=True)
class Rounding:
    """Tensors that share one encoding, named after the first of them in the graph's order."""

    name: str
    tensors: tuple[str, ...]
    makers: frozenset[str]
    """Operators of the plan that give one of them."""
    readers: frozenset[str]
    """Operators of the plan that read one of them."""

    def happens(self, integer: frozenset[str]) -> bool:
        """Whether an operator that computes in integers rounds them."""
        return not integer.isdisjoint(self.makers | self.readers)


@dataclass(frozen=True)
class Structure:
    """What can be switched in a plan."""

    groups: tuple[Group, ...]
    roundings: Mapping[str, Rounding]
    """By name, constants left out."""


def integer_operators(plan: Plan) -> frozenset[str]:
    """Names of the nodes that compute in integers."""
    return frozenset(name for name, operator in plan.operators.items() if operator.compute in INTEGER)


def structure_of(graph: Graph, plan: Plan) -> Structure:
    """Groups and roundings of a plan; every integer operator is in exactly one group."""
    integer = integer_operators(plan)
    order = [node for node in graph.graph if node.name in integer]
    roundings = _roundings(order, plan)
    by_tensor = {tensor: rounding for rounding in roundings for tensor in rounding.tensors}
    heads = _heads(order)
    groups: dict[str, _Draft] = {}
    for node in order:
        groups.setdefault(heads[_name(node)], _Draft()).operators.append(_name(node))
    taken: set[str] = set()
    for giving in (True, False):
        for node in order:
            values = results_of(node) if giving else activations_of(node)
            for value in values:
                rounding = by_tensor.get(value.name or "")
                if rounding is not None and rounding.name not in taken:
                    taken.add(rounding.name)
                    groups[heads[_name(node)]].roundings.append(rounding.name)
    return Structure(
        groups=tuple(
            Group(name, tuple(draft.operators), tuple(sorted(draft.roundings))) for name, draft in groups.items()
        ),
        roundings={rounding.name: rounding for rounding in roundings},
    )


def results_of(node: ir.Node) -> tuple[ir.Value, ...]:
    """What others see of a node: the result of the activation that it absorbs, and its further outputs."""
    activation = absorbed_activation(node)
    first = node.outputs[0] if activation is None else activation.outputs[0]
    return (first, *node.outputs[1:])


@dataclass
class _Draft:
    operators: list[str] = field(default_factory=list)
    roundings: list[str] = field(default_factory=list)


def _name(node: ir.Node) -> str:
    return node.name or ""


def _heads(order: list[ir.Node]) -> dict[str, str]:
    """The operator that each operator is switched with."""
    makers = {value.name: node for node in order for value in results_of(node)}
    heads: dict[str, str] = {}
    for node in order:
        source = makers.get(activations_of(node)[0].name) if node.op_type in MOVEMENTS else None
        heads[_name(node)] = _name(node) if source is None else heads[_name(source)]
    return heads


def _roundings(order: list[ir.Node], plan: Plan) -> list[Rounding]:
    root: dict[str, str] = {}
    makers: dict[str, set[str]] = {}
    readers: dict[str, set[str]] = {}
    for node in order:
        inputs = [value for value in activations_of(node) if value.name in plan.tensors and value.const_value is None]
        outputs = [value for value in results_of(node) if value.name in plan.tensors]
        for value in inputs:
            start = root.setdefault(value.name or "", value.name or "")
            readers.setdefault(start, set()).add(_name(node))
        for value in outputs:
            shares = bool(inputs) and node.op_type in MOVEMENTS and _same(plan, inputs[0], value)
            start = root[inputs[0].name or ""] if shares else value.name or ""
            root[value.name or ""] = start
            makers.setdefault(start, set()).add(_name(node))
    tensors: dict[str, list[str]] = {}
    for name, start in root.items():
        tensors.setdefault(start, []).append(name)
    return [
        Rounding(start, tuple(names), frozenset(makers.get(start, ())), frozenset(readers.get(start, ())))
        for start, names in tensors.items()
    ]


def _same(plan: Plan, left: ir.Value, right: ir.Value) -> bool:
    one, other = plan.tensors[left.name or ""], plan.tensors[right.name or ""]
    return (one.type, one.scale, one.zero_point) == (other.type, other.scale, other.zero_point)
