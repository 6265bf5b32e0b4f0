"""Operators of a plan that are switched together, and tensors that are rounded as one.

A group is an operator that computes, with the movements behind it: they hand on what they were given, so that there is
nothing to choose for them. Tensors that a movement connects share their numbers; their rounding is one source of noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from ..graph import Graph
from ..quantize.plan import Plan
from ..quantize.rules.lookup import rules_of
from ..quantize.rules.rules import Rules

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
    tied: bool = False
    """Whether an operator's kernels say its numbers, or want them to be those of other roundings too."""

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
    integer, rules = integer_operators(plan), rules_of(plan.scheme)
    order = [node for node in graph.graph if node.name in integer]
    roundings = _roundings(order, plan, rules)
    by_tensor = {tensor: rounding for rounding in roundings for tensor in rounding.tensors}
    heads = _heads(order, rules)
    groups: dict[str, _Draft] = {}
    for node in order:
        groups.setdefault(heads[_name(node)], _Draft()).operators.append(_name(node))
    taken: set[str] = set()
    for giving in (True, False):
        for node in order:
            values = results_of(node, rules) if giving else rules.activations_of(node)
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


def results_of(node: ir.Node, rules: Rules) -> tuple[ir.Value, ...]:
    """What others see of a node: the result of the activation that it absorbs, and its further outputs."""
    activation = rules.absorbed_activation(node)
    first = node.outputs[0] if activation is None else activation.outputs[0]
    return (first, *node.outputs[1:])


@dataclass
class _Draft:
    operators: list[str] = field(default_factory=list)
    roundings: list[str] = field(default_factory=list)


def _name(node: ir.Node) -> str:
    return node.name or ""


def _heads(order: list[ir.Node], rules: Rules) -> dict[str, str]:
    """The operator that each operator is switched with."""
    makers = {value.name: node for node in order for value in results_of(node, rules)}
    heads: dict[str, str] = {}
    for node in order:
        first = _name(rules.together(node)[0])
        read = rules.activations_of(node)[:1] if rules.keeps_encoding(node) else []
        source = makers.get(read[0].name) if read else None
        heads[_name(node)] = heads.get(first, _name(node)) if source is None else heads[_name(source)]
    return heads


def _roundings(order: list[ir.Node], plan: Plan, rules: Rules) -> list[Rounding]:
    root: dict[str, str] = {}
    makers: dict[str, set[str]] = {}
    readers: dict[str, set[str]] = {}
    tied: set[str] = set()
    for node in order:
        inputs = [value for value in rules.activations_of(node) if value.const_value is None]
        inputs = [value for value in inputs if value.name in plan.tensors]
        outputs = [value for value in results_of(node, rules) if value.name in plan.tensors]
        for value in inputs:
            start = root.setdefault(value.name or "", value.name or "")
            readers.setdefault(start, set()).add(_name(node))
        for value in outputs:
            shares = bool(inputs) and rules.keeps_encoding(node) and _same(plan, inputs[0], value)
            start = root[inputs[0].name or ""] if shares else value.name or ""
            root[value.name or ""] = start
            makers.setdefault(start, set()).add(_name(node))
        tied |= {root[name] for name in _tied(plan, rules, node, [*inputs, *outputs])}
    tensors: dict[str, list[str]] = {}
    for name, start in root.items():
        tensors.setdefault(start, []).append(name)
    return [
        Rounding(
            start, tuple(names), frozenset(makers.get(start, ())), frozenset(readers.get(start, ())), start in tied
        )
        for start, names in tensors.items()
    ]


def _tied(plan: Plan, rules: Rules, node: ir.Node, around: list[ir.Value]) -> set[str]:
    """Names of those whose numbers are not a choice of their own."""
    names = {value.name or "" for value in around}
    forced = {name for name in names if plan.tensors[name].calibrator == "format"}
    return names if rules.is_tied(node) else forced


def _same(plan: Plan, left: ir.Value, right: ir.Value) -> bool:
    one, other = plan.tensors[left.name or ""], plan.tensors[right.name or ""]
    return (one.type, one.scale, one.zero_point) == (other.type, other.scale, other.zero_point)
