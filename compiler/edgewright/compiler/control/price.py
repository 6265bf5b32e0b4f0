"""What a plan costs on a board, from the costs of single operators: no plan has to be emitted to be priced.

The same roofline as `targets.cost.estimate_call` on the emitted graph, added up by operator. On the machine that
compiles, factors make the estimates of the float model and of the plain plan equal to what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.bundle.manifest import Precision
from edgewright.targets.board import Board
from edgewright.targets.cost import CALL_CYCLES, OperatorCost, Workload, estimate_latency

from ..graph import Graph
from ..lower.workload import BYTES, Shapes, at_size, operator_costs
from ..quantize.plan import Plan
from ..quantize.rules.rules import Rules
from .groups import integer_operators, results_of

QUANTIZER_PARAMETERS = 2
"""Scale and zero point."""
LEAST_SHARE = 0.05
"""Of a measured plan that is put down to its integer work, however little is left for it."""
LARGEST_CALL_SHARE = 0.5
"""Of a measured latency that is put down to the call itself."""


@dataclass(frozen=True)
class Milliseconds:
    """A plan's time, by kind of work."""

    floating: float
    """Float operators."""
    integer: float
    """Integer operators, and the steps between float and integers."""


@dataclass(frozen=True)
class Factors:
    """Measured over estimated."""

    call: float = 1.0
    floating: float = 1.0
    integer: float = 1.0


@dataclass(frozen=True)
class _Tensor:
    step_ms: float
    """Of one pass that turns it into integers or back."""
    maker: str | None
    readers: tuple[str, ...]
    is_output: bool


class PriceList:
    """Times of one float graph's operators on one board."""

    def __init__(self, graph: Graph, board: Board, shapes: Shapes, threads: int, rules: Rules) -> None:
        """Raises BoardError where nothing on the board runs float32 or int8."""
        fixed = at_size(graph, shapes)
        self._call_ms = CALL_CYCLES / board.cpu.clock_hz * 1_000
        self._float_ms = _times(fixed, board, "float32", threads)
        self._int8_ms = _times(fixed, board, "int8", threads)
        self._tensors = _tensors(fixed, board, threads, rules)
        self._passing = _passing(fixed, self._tensors, rules)
        self.factors = Factors()

    def float_ms(self) -> float:
        """Latency of the float model."""
        return self._call_ms * self.factors.call + sum(self._float_ms.values()) * self.factors.floating

    def of(self, plan: Plan) -> float:
        """Latency of a plan."""
        found = self.estimate(plan)
        call_ms = self._call_ms * self.factors.call
        return call_ms + found.floating * self.factors.floating + found.integer * self.factors.integer

    def estimate(self, plan: Plan) -> Milliseconds:
        """Before factors, and without the call.

        An operator next to a 16-bit tensor has no integer kernel: it computes in float.
        """
        integer = integer_operators(plan)
        wide = {
            name
            for tensor, encoding in plan.tensors.items()
            if encoding.type.endswith("16") and (facts := self._tensors.get(tensor)) is not None
            for name in (facts.maker, *facts.readers)
        }
        narrow = (integer - wide) | self._fused(plan, integer - wide)
        floating = sum(ms for name, ms in self._float_ms.items() if name not in narrow)
        whole = sum(ms for name, ms in self._int8_ms.items() if name in narrow)
        return Milliseconds(floating, whole + self._steps_ms(plan, integer, narrow))

    def _fused(self, plan: Plan, narrow: frozenset[str]) -> frozenset[str]:
        """Float operators that engines compute in integers all the same: they see only what stands around them."""

        def rounded_by(name: str, sides: Sequence[str | None]) -> bool:
            return name in plan.tensors and bool(sides) and narrow.issuperset(side or "" for side in sides)

        return frozenset(
            name
            for name, (reads, gives) in self._passing.items()
            if all(rounded_by(tensor, [self._tensors[tensor].maker]) for tensor in reads)
            and all(rounded_by(tensor, self._tensors[tensor].readers) for tensor in gives)
        )

    def _steps_ms(self, plan: Plan, integer: frozenset[str], narrow: frozenset[str]) -> float:
        total = 0.0
        for name in plan.tensors:
            tensor = self._tensors.get(name)
            if tensor is None or integer.isdisjoint({tensor.maker, *tensor.readers}):
                continue
            made = tensor.maker in integer
            seen_in_float = [reader not in narrow for reader in tensor.readers if made or reader in integer]
            total += tensor.step_ms * (tensor.maker not in narrow)
            total += tensor.step_ms * (any(seen_in_float) or (made and tensor.is_output))
        return total

    def fit(self, plan: Plan, float_ms: float, plan_ms: float) -> None:
        """Takes the measured latency of the float model and of a plan; both are then priced as they were measured."""
        call_ms = min(self._call_ms, LARGEST_CALL_SHARE * min(float_ms, plan_ms))
        floating = (float_ms - call_ms) / sum(self._float_ms.values())
        found = self.estimate(plan)
        rest_ms = max(plan_ms - call_ms - found.floating * floating, LEAST_SHARE * plan_ms)
        self.factors = Factors(
            call=call_ms / self._call_ms,
            floating=floating,
            integer=rest_ms / found.integer if found.integer > 0 else floating,
        )


def _times(fixed: Graph, board: Board, precision: Precision, threads: int) -> Mapping[str, float]:
    costs = operator_costs(fixed, precision)
    return {name: _time(cost, board, precision, threads) for name, cost in costs.items()}


def _time(cost: OperatorCost, board: Board, precision: Precision, threads: int) -> float:
    return estimate_latency(board, Workload(operators=(cost,)), precision, threads).p50_ms


def _tensors(fixed: Graph, board: Board, threads: int, rules: Rules) -> dict[str, _Tensor]:
    """Every activation that integer operators could read or make."""
    makers: dict[str | None, str] = {}
    for node in fixed.graph:
        for value in results_of(node, rules):
            makers.setdefault(value.name, node.name or "")  # not the activation: it goes where its operator goes
    values = {
        value.name or "": value
        for node in fixed.graph
        for value in (*results_of(node, rules), *rules.activations_of(node))
        if value.const_value is None and value.dtype == ir.DataType.FLOAT
    }
    return {
        name: _Tensor(
            step_ms=_time(_step(value), board, "float32", threads),
            maker=makers.get(name),
            readers=tuple(use.node.name or "" for use in value.uses()),
            is_output=value.is_graph_output(),
        )
        for name, value in values.items()
    }


def _passing(fixed: Graph, tensors: Mapping[str, _Tensor], rules: Rules) -> dict[str, tuple[list[str], list[str]]]:
    """What operators without weights read and give, for those that have both."""
    found = {}
    for node in fixed.graph:
        reads = [value.name or "" for value in rules.activations_of(node) if value.const_value is None]
        gives = [value.name or "" for value in results_of(node, rules)]
        if not rules.is_product(node) and reads and tensors.keys() >= {*reads, *gives}:
            found[node.name or ""] = (reads, gives)
    return found


def _step(value: ir.Value) -> OperatorCost:
    shape = [] if value.shape is None else [size if isinstance(size, int) else 1 for size in value.shape]
    return OperatorCost(
        kind="other",
        macs=0,
        weight_bytes=QUANTIZER_PARAMETERS * BYTES["float32"],
        activation_bytes=2 * math.prod(shape) * BYTES["float32"],
    )
