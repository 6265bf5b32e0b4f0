"""Proposes a static plan: which operators become integer, which tensors are rounded for that, and to which numbers.

An integer region starts and ends at sums of products. Other operators join it where their input is integer already and
something behind them uses that; converting back and forth for a lone addition costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ..faults import NotQuantizable
from ..graph import Graph, graph_digest
from .calibration.calibrators import value_range
from .calibration.statistics import Statistics
from .capability import (
    MOVEMENTS,
    OPTIONAL_OUTPUT,
    POOLS,
    PRODUCTS,
    absorbed_activation,
    activations_of,
    has_integer_kernel,
)
from .encodings import encoding_for
from .plan import Compute, Encoding, Operator, Plan
from .scheme import Calibrator, Scheme
from .weights import channel_axis, is_finite, symmetric_encoding, weight_array


def propose(
    graph: Graph,
    statistics: Statistics,
    scheme: Scheme,
    calibrator: Calibrator = "min-max",
    keep_float: Mapping[str, str] | None = None,
) -> Plan:
    """The plan that a scheme asks for.

    Args:
        graph: the optimised float graph.
        statistics: of its activations.
        scheme: a static one.
        calibrator: how ranges are taken from the statistics.
        keep_float: names of nodes that stay float, and why.

    Raises:
        NotQuantizable: there is nothing that int8 could compute.
    """
    region = _Region.of(graph, statistics, frozenset(keep_float or {}))
    if not any(node.op_type in PRODUCTS for node in region.integer):
        raise NotQuantizable(
            "the model has no convolution, Gemm or MatMul with finite float32 activations that int8 could compute"
        )
    compute: Compute = "int16" if scheme.activations in {"uint16", "int16"} else "int8"
    operators = {
        _name(node): Operator(
            compute=compute,
            weight=None
            if (array := weight_array(node)) is None or node.op_type not in PRODUCTS
            else symmetric_encoding(array, scheme.weights, channel_axis(node) if scheme.per_channel else None),
        )
        for node in region.integer
    }
    kept = {name: Operator(compute="float", reason=reason) for name, reason in (keep_float or {}).items()}
    return Plan(
        model_digest=graph_digest(graph),
        scheme=scheme,
        operators=operators | kept,
        tensors=_encodings(region, statistics, scheme, calibrator),
    )


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
            if has_integer_kernel(node) and region.readable(node) and region.joins(node):
                region.members.add(id(node))
        for node in reversed(order):
            if id(node) in region.members and not region.pays(node):
                region.members.discard(id(node))
        region.integer = [node for node in order if id(node) in region.members]
        return region

    def readable(self, node: ir.Node) -> bool:
        """Whether everything that would be rounded has a finite range."""
        outputs = [] if node.op_type in OPTIONAL_OUTPUT else [result_of(node)]
        return all(self.has_range(value) for value in (*activations_of(node), *outputs))

    def has_range(self, value: ir.Value) -> bool:
        if value.const_value is not None:
            return value.dtype == ir.DataType.FLOAT and is_finite(value.const_value.numpy())
        known = self.statistics.tensors.get(value.name or "")
        return known is not None and known.not_finite == 0 and bool(np.isfinite([known.low, known.high]).all())

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


def _name(node: ir.Node) -> str:
    return node.name or ""


def _encodings(region: _Region, statistics: Statistics, scheme: Scheme, calibrator: Calibrator) -> dict[str, Encoding]:
    """Of everything that an integer operator reads or must round, movements keeping what they were given."""
    found: dict[str, Encoding] = {}
    for node in region.integer:
        for value in activations_of(node):
            found.setdefault(value.name or "", _encoding(value, statistics, scheme, calibrator))
        shared = found[activations_of(node)[0].name or ""] if node.op_type in MOVEMENTS else None
        for value in _rounded_results(node, region):
            if shared is None:
                found.setdefault(value.name or "", _encoding(value, statistics, scheme, calibrator))
            else:
                found[value.name or ""] = _shared(shared)
    return found


def _rounded_results(node: ir.Node, region: _Region) -> Iterable[ir.Value]:
    results = node.outputs if node.op_type in MOVEMENTS else [result_of(node)]
    for value in results:
        read = any(id(use.node) in region.members for use in value.uses())
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
