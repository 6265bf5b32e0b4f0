"""Keeps a plan right on CPUs whose sums of two int8 products saturate at 16 bits, at the smallest cost.

A pair can overflow only as far as its two input channels really reach, which calibration knows. The weights of such
pairs are moved towards zero when they are rounded (`pair_limits.py`); where a channel has many of them, a larger scale
loses less. For each output channel the scale is taken under which the expected error of its sum,
sum((rounded - weight)**2 * E[x**2]), is smallest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.targets.accumulation import Kernel, Lookup
from edgewright.targets.board import OperandTypes

from ...graph import Graph
from ..calibration.statistics import ChannelStatistics, Statistics
from ..corrections.equalize import equalized
from ..plan import INTEGER_RANGES, Encoding, Operator, Plan, WeightEncoding
from ..weights import channel_axis, input_channels, rounded, weight_array
from .pair_limits import MATRIX_RANK, as_matrix, excess, limited, rows_of

Floats = NDArray[np.float64]

WIDEST = 255
SEVEN_BIT_STEPS = 64
"""Largest integer of a weight in 7 bits: 255 * (64 + 64) fits 16 bits."""
LARGEST_STEPS = 127
HEADROOM_STEPS = 2
"""Integer activations pass the float ones that were seen by rounding errors of what came before."""
FACTORS = 1 + np.arange(33) / 32
"""Scales that are tried, as multiples of the full-range scale. At 127 / 64 no pair can overflow at all."""
OPERANDS: dict[tuple[str, str], OperandTypes] = {
    ("uint8", "int8"): "u8s8",
    ("int8", "int8"): "s8s8",
    ("uint8", "uint8"): "u8u8",
}


@dataclass(frozen=True)
class Risk:
    """What saturation could do to one operator of a plan."""

    operator: str
    channels: int
    risky_channels: int
    """Output channels with a pair that activations seen in calibration could overflow."""
    largest_excess: int
    """Of one pair, in units of the integer sum; the 16-bit limit is 32767."""


def saturating_operators(graph: Graph, plan: Plan, statistics: Statistics, lookup: Lookup) -> tuple[Risk, ...]:
    """Operators of the plan whose sums could saturate on a target, in the order of the graph.

    Args:
        graph: the float graph that the plan was made for.
        plan: with the weights as it rounds them.
        statistics: of the graph with the plan's equalizations.
        lookup: the target's accumulate table.
    """
    risks = []
    for case in _cases(graph, plan, statistics, lookup):
        over = case.excess(rounded(case.weight, case.encoding))
        if over.any():
            risks.append(Risk(case.name, len(over), int(over.any(axis=1).sum()), int(over.max())))
    return tuple(risks)


def guarded(graph: Graph, plan: Plan, statistics: Statistics, lookup: Lookup) -> Plan:
    """The plan with weights whose pairs cannot saturate on a target, as its scheme's guard says; arguments as above."""
    if plan.scheme.guard == "none":
        return plan
    guard = _narrowed if plan.scheme.guard == "seven-bit" else _limited
    operators = {case.name: guard(case) for case in _cases(graph, plan, statistics, lookup)}
    return msgspec.structs.replace(plan, operators=plan.operators | operators)


@dataclass(frozen=True)
class _Case:
    """An operator whose kernel saturates."""

    name: str
    operator: Operator
    encoding: WeightEncoding
    """One scale per channel."""
    weight: NDArray[np.float32]
    axis: int
    peaks: tuple[int, ...]
    """Per input channel: the largest raw activation."""
    moments: Floats
    """Per input channel: an estimate of E[x**2]."""

    def excess(self, integers: NDArray[Any]) -> NDArray[np.int32]:
        """(outputs, pairs), of integer weights in the weight's shape."""
        peaks, positions = as_matrix(self.weight.shape, self.axis, self.peaks)
        return excess(rows_of(integers, self.axis).astype(np.int32), peaks, positions)


def _cases(graph: Graph, plan: Plan, statistics: Statistics, lookup: Lookup) -> Iterator[_Case]:
    for node in equalized(graph, plan.equalizations).graph if plan.equalizations else graph.graph:
        operator = plan.operators.get(node.name or "")
        weight = weight_array(node)
        if operator is None or operator.weight is None or weight is None or operator.compute not in ("int8", "dynamic"):
            continue
        source = node.inputs[0]
        activation = None if source is None or operator.compute == "dynamic" else plan.tensors.get(source.name or "")
        operands = OPERANDS.get(("uint8" if activation is None else activation.type, operator.weight.type))
        if operands is not None and lookup(_kernel(node, weight), operands) == "saturating16":
            yield _case(node, operator, operator.weight, weight, activation, statistics)


def _kernel(node: ir.Node, weight: NDArray[np.float32]) -> Kernel:
    if node.op_type != "Conv":
        return "gemm"
    groups = node.attributes.get_int("group", 1)
    return "depthwise" if weight.shape[1] == 1 and groups == weight.shape[0] else "conv"


def _case(
    node: ir.Node,
    operator: Operator,
    encoding: WeightEncoding,
    weight: NDArray[np.float32],
    activation: Encoding | None,
    statistics: Statistics,
) -> _Case:
    axis = channel_axis(node)
    inputs = input_channels(node, weight)
    source = node.inputs[0]
    name = "" if source is None else source.name or ""
    known = statistics.channels.get((name, 1 if node.op_type == "Conv" else -1))
    if activation is None or known is None or len(known.high) != inputs:
        peaks, moments = (WIDEST,) * inputs, np.ones(inputs)
    else:
        peaks, moments = _peaks(known, activation), _moments(known)
    scales = np.broadcast_to(np.asarray(encoding.scale), weight.shape[axis])
    per_channel = msgspec.structs.replace(encoding, axis=axis, scale=tuple(float(scale) for scale in scales))
    return _Case(node.name or "", operator, per_channel, weight, axis, peaks, moments)


def _peaks(known: ChannelStatistics, activation: Encoding) -> tuple[int, ...]:
    """Raw values from the type's lowest upwards, which is how kernels that saturate see signed ones too.

    Padding holds the zero point, so no channel's peak is below it.
    """
    lowest = INTEGER_RANGES[activation.type][0]
    zero = activation.zero_point - lowest
    steps = np.rint(known.high.astype(np.float64) / activation.scale) + zero + HEADROOM_STEPS
    return tuple(int(step) for step in np.clip(steps, max(zero, 1), WIDEST))


def _moments(known: ChannelStatistics) -> Floats:
    """E[x**2] from mean and range, the range taken for six standard deviations; never zero."""
    spread = (known.high.astype(np.float64) - known.low) / 6
    moments: Floats = np.square(known.mean) + np.square(spread)
    floor = float(moments.max(initial=0)) * 1e-6 + 1e-30
    return np.clip(moments, floor, None)


def _narrowed(case: _Case) -> Operator:
    """All weights in 7 bits."""
    largest = np.abs(rows_of(case.weight, case.axis)).max(axis=1) / np.float32(SEVEN_BIT_STEPS)
    scales = np.maximum(np.asarray(case.encoding.scale, dtype=np.float32), largest)
    encoding = msgspec.structs.replace(case.encoding, scale=tuple(float(scale) for scale in scales))
    return msgspec.structs.replace(case.operator, weight=encoding, reason="7-bit weights: sums of pairs would saturate")


def _limited(case: _Case) -> Operator:
    """Pair limits, and for each channel with a pair beyond them the scale that loses least."""
    risky = np.flatnonzero(case.excess(rounded(case.weight, case.encoding)).any(axis=1))
    if not risky.size:
        return case.operator
    factors = _best_factors(case, risky)
    scales = np.asarray(case.encoding.scale, dtype=np.float32)
    scales[risky] *= factors.astype(np.float32)
    encoding = msgspec.structs.replace(
        case.encoding, scale=tuple(float(scale) for scale in scales), pair_peaks=case.peaks
    )
    return msgspec.structs.replace(case.operator, weight=encoding, reason=_reason(case, encoding, risky, factors))


def _best_factors(case: _Case, risky: NDArray[np.intp]) -> Floats:
    """(risky,): by which the scale of each risky channel grows."""
    peaks, positions = as_matrix(case.weight.shape, case.axis, case.peaks)
    moments = _spread(case, positions)[risky]
    rows = rows_of(case.weight, case.axis)[risky].astype(np.float64)
    scales = np.asarray(case.encoding.scale)[risky, None]
    errors = np.empty((len(FACTORS), len(risky)))
    for index, factor in enumerate(FACTORS):
        scale = scales * factor
        restored = limited(rows / scale, peaks[risky], positions, balance=case.weight.ndim > MATRIX_RANK) * scale
        errors[index] = (np.square(restored - rows) * moments).sum(axis=1)
    best: Floats = FACTORS[errors.argmin(axis=0)]
    return best


def _spread(case: _Case, positions: int) -> Floats:
    """(outputs, terms): the moment of the activation that each weight meets."""
    outputs = case.weight.shape[case.axis]
    if case.weight.ndim == 2:
        return np.broadcast_to(case.moments, (outputs, len(case.moments)))
    by_group = case.moments.reshape(-1, case.weight.shape[1])
    return np.repeat(np.repeat(by_group, outputs // len(by_group), axis=0), positions, axis=1)


def _reason(case: _Case, encoding: WeightEncoding, risky: NDArray[np.intp], factors: Floats) -> str:
    free = msgspec.structs.replace(encoding, pair_peaks=(1,) * len(case.peaks))
    moved = int((rounded(case.weight, encoding) != rounded(case.weight, free)).sum())
    wider = int((factors > 1).sum())
    parts = []
    if wider:
        steps = round(LARGEST_STEPS / float(factors.max()))
        parts.append(f"{wider} of {len(encoding.scale)} channels narrowed, the most to {steps} steps")
    if moved:
        parts.append(f"{moved} of {case.weight.size} weights moved towards zero")
    return f"{', '.join(parts) or f'{len(risky)} channels limited'}: sums of pairs would saturate"
