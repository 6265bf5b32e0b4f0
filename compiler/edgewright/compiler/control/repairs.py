"""The menu: what can be done about one group of operators. Every repair is data, and applying it is pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Literal

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph import Graph
from ..quantize.calibration.calibrators import value_range
from ..quantize.calibration.statistics import Statistics
from ..quantize.encodings import encoding_for
from ..quantize.plan import Encoding, Operator, Plan, WeightEncoding
from ..quantize.scheme import ActivationType, Calibrator
from ..quantize.weights import channel_axis, symmetric_encoding, weight_array
from .groups import Group, Rounding, Structure

CALIBRATORS: tuple[Calibrator, ...] = ("min-max", "mse", "percentile", "entropy")
KEEP = "as planned"
FLOAT_REPAIR = "float"
WIDE_REPAIR = "int16"
NARROW_REPAIR = "seven-bit"
NARROW = 127 / 64
"""Scales that much wider keep every weight within 7 bits: u8 * s7 + u8 * s7 fits 16 bits."""
SAME_STEP = 0.01
"""Relative difference of the scale from which another range is worth a line on the menu."""

Place = Literal["operators", "tensors"]


class Repair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of a plan for one group; what it names replaces what the plan says."""

    group: str
    name: str
    operators: dict[str, Operator] = {}
    tensors: dict[str, Encoding] = {}


def repaired(plan: Plan, repairs: tuple[Repair, ...]) -> Plan:
    """The plan with repairs made, in order."""
    operators, tensors = dict(plan.operators), dict(plan.tensors)
    for repair in repairs:
        operators |= repair.operators
        tensors |= repair.tensors
    return msgspec.structs.replace(plan, operators=operators, tensors=tensors)


class Workbench:
    """What repairs are made from: the float graph (equalised, if the plan is) and its statistics."""

    def __init__(self, graph: Graph, statistics: Statistics) -> None:
        self._nodes: Mapping[str, ir.Node] = {node.name or "": node for node in graph.graph}
        self._statistics = statistics

    def weight(self, operator: str) -> NDArray[np.float32] | None:
        """The constant float weight of a node."""
        return weight_array(self._nodes[operator])

    def channel_axis(self, operator: str) -> int:
        """The axis of its output channels."""
        return channel_axis(self._nodes[operator])

    def encoding(self, tensor: str, kind: ActivationType, calibrator: Calibrator) -> Encoding | None:
        """Another encoding of a tensor, or None where calibration has not seen it."""
        known = self._statistics.tensors.get(tensor)
        if known is None or known.not_finite or not np.isfinite([known.low, known.high]).all():
            return None
        levels = 65536 if kind.endswith("16") else 256
        low, high = value_range(known, calibrator, levels)
        return encoding_for(low, high, kind, calibrator)


def menu(plan: Plan, group: Group, structure: Structure, bench: Workbench, *, saturating: bool) -> tuple[Repair, ...]:
    """What can be done about a group, to leave everything as planned first.

    Single operators of a plan by TFLite's rules do not get wider activations: no kernel reads 8 bits and gives 16, so
    that they would compute in float. There a plan is wide as a whole, or not.

    Args:
        plan: the plain plan.
        group: one of the structure's.
        structure: of the plan.
        bench: graph and statistics.
        saturating: whether the target sums pairs of products in 16 bits.
    """
    weights: list[tuple[str, dict[str, Operator]]] = [("", {}), *_weight_repairs(plan, group, bench, saturating)]
    tensors = [("", {}), *_calibrator_repairs(plan, group, structure, bench)]
    kept = tuple(
        Repair(
            group=group.name,
            name=" and ".join(filter(None, (weight_name, tensor_name))) or KEEP,
            operators=operators,
            tensors=encodings,
        )
        for (weight_name, operators), (tensor_name, encodings) in product(weights, tensors)
    )
    wide = () if plan.scheme.rules == "tflite" else tuple(_wide_repair(plan, group, structure, bench))
    return (*kept, *wide, float_repair(plan, group))


def float_repair(plan: Plan, group: Group) -> Repair:
    """All operators of the group compute in float."""
    return Repair(
        group=group.name,
        name=FLOAT_REPAIR,
        operators={
            name: msgspec.structs.replace(
                plan.operators[name], compute="float", weight=None, bias_correction=(), reason="accuracy control"
            )
            for name in group.operators
        },
    )


def _weight_repairs(
    plan: Plan, group: Group, bench: Workbench, saturating: bool
) -> Iterator[tuple[str, dict[str, Operator]]]:
    operator = plan.operators[group.name]
    weight, encoding = bench.weight(group.name), operator.weight
    if weight is None or encoding is None or encoding.block_size is not None:
        return
    finer = encoding
    if encoding.axis is None:
        finer = symmetric_encoding(weight, encoding.type, bench.channel_axis(group.name))
        yield "per-channel", {group.name: _with_weight(operator, finer)}
    if saturating and plan.scheme.guard == "none":
        yield NARROW_REPAIR, {group.name: _with_weight(operator, _narrowed(finer))}


def _with_weight(operator: Operator, encoding: WeightEncoding) -> Operator:
    """Bias correction belongs to the weights that were rounded before."""
    return msgspec.structs.replace(operator, weight=encoding, bias_correction=(), reason="accuracy control")


def _narrowed(encoding: WeightEncoding) -> WeightEncoding:
    return msgspec.structs.replace(encoding, scale=tuple(float(np.float32(one * NARROW)) for one in encoding.scale))


def _calibrator_repairs(
    plan: Plan, group: Group, structure: Structure, bench: Workbench
) -> Iterator[tuple[str, dict[str, Encoding]]]:
    offered: list[dict[str, Encoding]] = []
    for calibrator in CALIBRATORS:
        changes: dict[str, Encoding] = {}
        for name in group.roundings:
            current = plan.tensors[name]
            other = alternative(plan, structure.roundings[name], bench, calibrator)
            if other is not None and differs(other, current):
                changes |= spread_over(structure.roundings[name].tensors, other)
        if changes and changes not in offered:
            offered.append(changes)
            yield calibrator, changes


def alternative(plan: Plan, rounding: Rounding, bench: Workbench, calibrator: Calibrator) -> Encoding | None:
    """Another encoding of the same type; None where kernels leave no choice, or calibration has not seen it."""
    kind = plan.tensors[rounding.name].type
    symmetric = plan.scheme.rules == "tflite" and kind == "int16"
    return None if rounding.tied or symmetric else bench.encoding(rounding.name, kind, calibrator)


def differs(one: Encoding, other: Encoding) -> bool:
    """Whether two encodings are worth telling apart."""
    step = max(one.scale, other.scale)
    return abs(one.scale - other.scale) > SAME_STEP * step or abs(one.low - other.low) > step


def spread_over(tensors: tuple[str, ...], encoding: Encoding) -> dict[str, Encoding]:
    """The encoding for the first tensor, and the same numbers for those that share it."""
    shared = msgspec.structs.replace(encoding, calibrator="shared")
    return {tensor: encoding if index == 0 else shared for index, tensor in enumerate(tensors)}


WIDER: dict[ActivationType, ActivationType] = {"uint8": "uint16", "int8": "int16"}


def _wide_repair(plan: Plan, group: Group, structure: Structure, bench: Workbench) -> Iterator[Repair]:
    tensors: dict[str, Encoding] = {}
    for name in group.roundings:
        kind = WIDER.get(plan.tensors[name].type)
        encoding = None if kind is None else bench.encoding(name, kind, "min-max")
        if encoding is not None:
            tensors |= spread_over(structure.roundings[name].tensors, encoding)
    if tensors:
        operators = {
            name: msgspec.structs.replace(plan.operators[name], compute="int16", reason="accuracy control")
            for name in group.operators
        }
        yield Repair(group=group.name, name=WIDE_REPAIR, operators=operators, tensors=tensors)
