"""Scales and zero points as TFLite's kernels want them.

Some kernels give one encoding only (SOFTMAX), and some read and give the same (MAX_POOL_2D, CONCATENATION). Tensors
that must be the same form groups, each with the union of its members' ranges. Where what joins others would lose too
much for its other readers, it stays out: the emitter brings it to the others' encoding with QUANTIZE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import onnx_ir as ir

from ...attributes import integer, integers, text
from ..calibration.calibrators import value_range
from ..calibration.statistics import Statistics
from ..encodings import encoding_for, symmetric_encoding_for
from ..plan import Encoding
from ..scheme import Calibrator, Scheme
from .tflite_facts import AVERAGING, FIXED, JOINING, KEEPING

MAX_GROWTH = 1.5
"""By how much joining may widen a range that others read too: 3.5 dB of what rounding leaves."""
COMPARING = frozenset({"ArgMax", "ArgMin", "LogSoftmax", "Softmax", "TopK"})
"""What tells which of its inputs is the largest."""
NAMED = 3
"""Members that a reason names."""


@dataclass(frozen=True)
class Rounded:
    """An integer operator and what is rounded around it."""

    node: ir.Node
    reads: tuple[ir.Value, ...]
    gives: tuple[ir.Value, ...]
    only_rounding_clamps: bool = False
    """Whether the rounding of the result has to clamp it, because no kernel does: its range must not grow."""


@dataclass
class _Group:
    """Tensors with one encoding."""

    members: list[str]
    low: float
    high: float
    fixed: tuple[float, int] | None = None
    maker: str = ""
    """The operator that fixes the numbers, or that was the first to make members the same."""
    closed: bool = False
    """Whether its range must not grow."""
    readers: int = 0
    """How many operators compute with one of them, others than those that keep or join."""


@dataclass
class _Groups:
    """Union-find by name."""

    by_name: dict[str, _Group] = field(default_factory=dict)

    def add(self, name: str, low: float, high: float) -> None:
        if name not in self.by_name:
            self.by_name[name] = _Group([name], min(low, 0.0), max(high, 0.0))

    def unite(self, left: str, right: str, maker: str) -> None:
        """The first group takes the second in, numbers that one of them fixes included."""
        kept, gone = self.by_name[left], self.by_name[right]
        if kept is gone:
            return
        kept.maker = (kept.maker if kept.fixed else "") or (gone.maker if gone.fixed else "") or maker
        kept.fixed = kept.fixed or gone.fixed
        kept.low, kept.high = min(kept.low, gone.low), max(kept.high, gone.high)
        kept.closed |= gone.closed
        kept.readers += gone.readers
        kept.members += gone.members
        for name in gone.members:
            self.by_name[name] = kept


def encodings(
    around: Sequence[Rounded], statistics: Statistics, scheme: Scheme, calibrator: Calibrator
) -> dict[str, Encoding]:
    """Of everything that these operators read and give, by name."""
    groups, whole = _Groups(), _unclipped(around)
    calibrators: dict[str, Calibrator] = {}
    for each in around:
        for value in (*each.reads, *each.gives):
            name = value.name or ""
            calibrators[name] = "min-max" if name in whole or value.const_value is not None else calibrator
            groups.add(name, *_range(value, statistics, scheme, calibrators[name]))
    own = {name: (group.low, group.high) for name, group in groups.by_name.items()}
    for each in around:
        _mark(groups, each, scheme)
    for each in around:
        if each.reads and (each.node.op_type in KEEPING or _averages_alike(groups, each, scheme)):
            for value in each.gives:
                groups.unite(each.reads[0].name or "", value.name or "", each.node.op_type)
    for each in around:
        if each.node.op_type in JOINING and each.gives:
            _join(groups, each)
    return {
        name: _encoding(name, group, own[name], scheme, calibrators[name]) for name, group in groups.by_name.items()
    }


def _unclipped(around: Sequence[Rounded]) -> frozenset[str]:
    """Names of tensors whose largest value is the answer: clipped, the first and the second class would be equal."""
    outputs = {value.name or "" for each in around for value in each.gives if value.is_graph_output()}
    compared = {value.name or "" for each in around if each.node.op_type in COMPARING for value in each.reads}
    return frozenset(outputs | compared)


def _mark(groups: _Groups, each: Rounded, scheme: Scheme) -> None:
    """What the operator says of its result, and that it computes with what it reads."""
    fixed = FIXED.get(each.node.op_type, {}).get(scheme.activations)
    for value in each.gives:
        group = groups.by_name[value.name or ""]
        if fixed is not None:
            group.fixed, group.maker = fixed, each.node.op_type
        group.closed |= each.only_rounding_clamps
    if each.node.op_type not in KEEPING | JOINING:
        for name in {value.name or "" for value in each.reads}:
            groups.by_name[name].readers += 1


def _averages_alike(groups: _Groups, each: Rounded, scheme: Scheme) -> bool:
    """Whether a pool's result gets the encoding of what it reads: it must, the scheme says so, or it loses little."""
    if each.node.op_type not in AVERAGING or (each.node.op_type == "AveragePool" and not _counts_all(each.node)):
        return each.node.op_type in AVERAGING
    read, given = groups.by_name[each.reads[0].name or ""], groups.by_name[each.gives[0].name or ""]
    narrow = scheme.shared_pools or read.high - read.low <= MAX_GROWTH * (given.high - given.low)
    return narrow and not read.closed


def _counts_all(node: ir.Node) -> bool:
    """Whether every mean of an AveragePool is over as many places, so that it is a sum of products."""
    padded = any(integers(node, "pads") or ()) or text(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}
    return not padded and not integer(node, "ceil_mode", 0)


def _join(groups: _Groups, each: Rounded) -> None:
    """All that is read takes the encoding of what is given, but what would lose by it."""
    result = groups.by_name[each.gives[0].name or ""]
    found = {id(group): group for value in each.reads if (group := groups.by_name[value.name or ""]) is not result}
    fixed = {group.fixed for group in found.values()}
    if len(fixed) == 1 and result.fixed is None:
        joining = list(found.values())  # all fixed in one way, or none
    else:
        joining = [group for group in found.values() if group.fixed == result.fixed]
    low = min([result.low, *(group.low for group in joining)])
    high = max([result.high, *(group.high for group in joining)])
    for group in joining:
        grows = (high - low) > MAX_GROWTH * (group.high - group.low)
        clamped = group.closed and (low < group.low or high > group.high)
        if not (clamped or (grows and group.readers and group.fixed is None)):
            groups.unite(each.gives[0].name or "", group.members[0], each.node.op_type)


def _range(value: ir.Value, statistics: Statistics, scheme: Scheme, calibrator: Calibrator) -> tuple[float, float]:
    if value.const_value is not None:
        array = value.const_value.numpy()
        return float(array.min(initial=0)), float(array.max(initial=0))
    wide = scheme.activations == "int16"
    return value_range(statistics.tensors[value.name or ""], calibrator, 65535 if wide else 256, symmetric=wide)


def _encoding(name: str, group: _Group, own: tuple[float, float], scheme: Scheme, calibrator: Calibrator) -> Encoding:
    alone = encoding_for(*own, scheme.activations, calibrator)
    if group.fixed is not None:
        scale, zero_point = group.fixed
        found = Encoding(type=scheme.activations, scale=scale, zero_point=zero_point, calibrator="format")
        return _explained(found, alone, f"{group.maker} gives no other numbers")
    if scheme.activations == "int16":
        found = symmetric_encoding_for(group.low, group.high, scheme.activations, calibrator)
        unshared = symmetric_encoding_for(*own, scheme.activations, calibrator)
    else:
        found, unshared = encoding_for(group.low, group.high, scheme.activations, calibrator), alone
    if (found.scale, found.zero_point) == (unshared.scale, unshared.zero_point):
        return _explained(found, alone, "16-bit kernels take no zero point but 0")
    others = [member for member in group.members if member != name]
    named = ", ".join(others[:NAMED]) + (f" and {len(others) - NAMED} more" if len(others) > NAMED else "")
    shared = msgspec.structs.replace(found, calibrator="shared")
    return _explained(shared, alone, f"{group.maker} has one encoding for all that it reads and gives: that of {named}")


def _explained(found: Encoding, alone: Encoding, reason: str) -> Encoding:
    """With the reason why it is not what ONNX Runtime's rules would give the tensor."""
    if (found.scale, found.zero_point) == (alone.scale, alone.zero_point):
        return found
    otherwise = f"alone it would have scale {alone.scale:.6g} and zero point {alone.zero_point}"
    return msgspec.structs.replace(found, reason=f"{reason}; {otherwise}")
