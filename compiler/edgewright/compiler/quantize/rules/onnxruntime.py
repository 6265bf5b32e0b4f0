"""ONNX Runtime's rules: integers where they save time on a CPU.

An integer region starts and ends at sums of products. Other operators join it where their input is integer already and
something behind them uses that; converting back and forth for a lone addition costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from ...graph import Graph
from .. import capability
from ..calibration.calibrators import value_range
from ..calibration.statistics import Statistics
from ..capability import MOVEMENTS, OPTIONAL_OUTPUT, POOLS, PRODUCTS, absorbed_activation, activations_of
from ..encodings import encoding_for
from ..plan import Encoding, Plan
from ..scheme import Calibrator, Scheme
from .rules import Choice, Complaint, finite_range


class OnnxRuntimeRules:
    """`capability.py`, and regions that pay."""

    hard_sigmoid_is_addition = True

    def has_integer_kernel(self, node: ir.Node) -> bool:
        """As `capability.has_integer_kernel`."""
        return capability.has_integer_kernel(node)

    def is_product(self, node: ir.Node) -> bool:
        """Convolutions and matrix products."""
        return node.op_type in PRODUCTS

    def keeps_encoding(self, node: ir.Node) -> bool:
        """Movements."""
        return node.op_type in MOVEMENTS

    def is_tied(self, node: ir.Node) -> bool:  # noqa: ARG002 -- a fact of every operator here
        """Never: every rounding has numbers of its own."""
        return False

    def together(self, node: ir.Node) -> tuple[ir.Node, ...]:
        """Each node is one."""
        return (node,)

    def absorbed_activation(self, node: ir.Node) -> ir.Node | None:
        """As `capability.absorbed_activation`."""
        return absorbed_activation(node)

    def activations_of(self, node: ir.Node) -> list[ir.Value]:
        """As `capability.activations_of`."""
        return activations_of(node)

    def choose(self, graph: Graph, statistics: Statistics, keep_float: frozenset[str]) -> Choice:
        """Regions that start and end at products."""
        return Choice(tuple(_Region.of(graph, statistics, keep_float).integer))

    def encodings(
        self, nodes: tuple[ir.Node, ...], statistics: Statistics, scheme: Scheme, calibrator: Calibrator
    ) -> dict[str, Encoding]:
        """Of everything that an integer operator reads or must round, movements keeping what they were given."""
        members = {id(node) for node in nodes}
        found: dict[str, Encoding] = {}
        for node in nodes:
            for value in activations_of(node):
                found.setdefault(value.name or "", _encoding(value, statistics, scheme, calibrator))
            shared = found[activations_of(node)[0].name or ""] if node.op_type in MOVEMENTS else None
            for value in _rounded_results(node, members):
                if shared is None:
                    found.setdefault(value.name or "", _encoding(value, statistics, scheme, calibrator))
                else:
                    found[value.name or ""] = _shared(shared)
        return found

    def complaints(self, plan: Plan, graph: Graph) -> tuple[Complaint, ...]:
        """None: whatever stands between quantizers is computed."""
        del plan, graph
        return ()


@dataclass
class _Region:
    """The integer operators in order, and what each of them reads and gives."""

    statistics: Statistics
    integer: list[ir.Node] = field(default_factory=list)
    members: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, graph: Graph, statistics: Statistics, keep_float: frozenset[str]) -> _Region:
        region = cls(statistics)
        order = [node for node in graph.graph if node.name not in keep_float]
        for node in order:
            if capability.has_integer_kernel(node) and region.readable(node) and region.joins(node):
                region.members.add(id(node))
        for node in reversed(order):
            if id(node) in region.members and not region.pays(node):
                region.members.discard(id(node))
        region.integer = [node for node in order if id(node) in region.members]
        return region

    def readable(self, node: ir.Node) -> bool:
        """Whether everything that would be rounded has a finite range."""
        outputs = [] if node.op_type in OPTIONAL_OUTPUT else [result_of(node)]
        return all(finite_range(value, self.statistics) for value in (*activations_of(node), *outputs))

    def joins(self, node: ir.Node) -> bool:
        """Products always; others where an input is integer, and movements of a model's input."""
        if node.op_type in PRODUCTS:
            return True
        makers = [maker_of(value) for value in activations_of(node)]
        if any(maker is not None and maker.op_type == "MatMul" for maker in makers):
            return False  # its sum comes as float at no cost, so that a bias behind it is added before rounding
        first = activations_of(node)[0]
        if node.op_type in MOVEMENTS and first.producer() is None and first.const_value is None:
            return True
        return any(maker is not None and id(maker) in self.members for maker in makers)

    def pays(self, node: ir.Node) -> bool:
        """Whether an integer operator reads the result, or the operator is worth it alone."""
        if node.op_type in PRODUCTS:
            return True
        fed = any(maker is not None and id(maker) in self.members for maker in map(maker_of, activations_of(node)))
        if node.op_type in POOLS and fed:
            return True
        readers = [use.node for value in node.outputs for use in _behind(node, value).uses()]
        return bool(readers) and any(id(reader) in self.members for reader in readers)


def _behind(node: ir.Node, value: ir.Value) -> ir.Value:
    activation = absorbed_activation(node) if value is node.outputs[0] else None
    return value if activation is None else activation.outputs[0]


def result_of(node: ir.Node) -> ir.Value:
    """What the node gives to others: the result of the activation that it absorbs, else its own first output."""
    return _behind(node, node.outputs[0])


def maker_of(value: ir.Value) -> ir.Node | None:
    """The node whose result this is, seen through an absorbed activation; None for inputs and constants."""
    maker = value.producer()
    if maker is None or not maker.inputs or maker.inputs[0] is None:
        return maker
    before = maker.inputs[0].producer()
    return before if before is not None and absorbed_activation(before) is maker else maker


def _rounded_results(node: ir.Node, members: set[int]) -> Iterable[ir.Value]:
    results = node.outputs if node.op_type in MOVEMENTS else [result_of(node)]
    for value in results:
        read = any(id(use.node) in members for use in value.uses())
        if read or node.op_type not in OPTIONAL_OUTPUT:
            yield value


def _encoding(value: ir.Value, statistics: Statistics, scheme: Scheme, calibrator: Calibrator) -> Encoding:
    if value.const_value is not None:
        array = value.const_value.numpy()
        return encoding_for(float(array.min(initial=0)), float(array.max(initial=0)), scheme.activations, "min-max")
    low, high = value_range(statistics.tensors[value.name or ""], calibrator, _levels(scheme))
    return encoding_for(low, high, scheme.activations, calibrator)


def _levels(scheme: Scheme) -> int:
    return 65536 if scheme.activations in {"uint16", "int16"} else 256


def _shared(encoding: Encoding) -> Encoding:
    return Encoding(type=encoding.type, scale=encoding.scale, zero_point=encoding.zero_point, calibrator="shared")
