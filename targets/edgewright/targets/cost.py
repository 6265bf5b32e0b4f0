"""How long a model takes on a board that is not here: a roofline with an overhead per operator, and an error band.

    compute(op)  = macs / (macs_per_cycle[kind] * clock_hz)
    transfer(op) = activation_bytes / activation_bytes_per_s + weight_bytes / weight_bytes_per_s
    t(op)        = overhead + max(compute, transfer) / speed_up(threads)
    t(net)       = sum over operators;   band = [t / low_factor, t * high_factor]
    t(call)      = call_cycles / clock_hz + t(net)

The constants come from the board (`[[latency]]` in its file). They are fitted on measured latencies by bench/cost.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .board import CPU, Board, BoardError, LatencyModel, Precision

OperatorKind = Literal["conv", "depthwise", "matmul", "other"]
"""`depthwise`: grouped convolution with few channels per group; `other`: no multiply-accumulates worth counting."""


CALL_CYCLES: Final = 30_000
"""Entering and leaving the engine once. An ONNX Runtime session of one tiny operator took 13 000 cycles (5 us) from
Python on a wide x86 core; small cores run about half as many instructions per cycle. No board was at hand to measure
it, hence `CALL_FACTOR`."""
CALL_FACTOR: Final = 3.0
"""The band of `CALL_CYCLES`, either way."""
RATIO_FACTOR: Final = 1.4
"""How far the ratio of two estimates for one board may be off, either way. They share the board's error, so this is
less than the product of their bands: of 75 published pairs of int8 and float32 latency (the ncnn timings that the CPU
constants are fitted on), nine in ten had a ratio within this factor of the estimated one."""


@dataclass(frozen=True, kw_only=True)
class OperatorCost:
    """The work of one operator at batch 1, in the precision that is asked about."""

    kind: OperatorKind
    macs: int
    weight_bytes: int
    activation_bytes: int
    """Input plus output."""

    def __post_init__(self) -> None:
        for name in ("macs", "weight_bytes", "activation_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The work of one inference, as operators after fusion: an activation that a convolution absorbs is none."""

    operators: tuple[OperatorCost, ...]


@dataclass(frozen=True, kw_only=True)
class LatencyEstimate:
    """Median latency of one inference, with the interval that holds nine in ten of the held-out measurements."""

    p50_ms: float
    low_ms: float
    high_ms: float
    method: str


def estimate_latency(
    board: Board, workload: Workload, precision: Precision, threads: int = 1, *, processor: str | None = None
) -> LatencyEstimate:
    """Predicts the median latency of `workload` on `board`.

    Args:
        board: where it will run.
        workload: one inference, in the precision that is asked about.
        precision: what the model computes in.
        threads: CPU threads; more than the board has cores do not help.
        processor: `cpu` or the name of an accelerator; None takes the board's preferred one for that precision.

    Raises:
        BoardError: nothing on the board runs that precision.
        ValueError: threads is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    model = _choose_model(board, precision, processor)
    speed_up = _speed_up(min(threads, board.cpu.cores), model.parallel_fraction)
    clock_hz = _clock_hz(board, model.processor)
    total_s = sum(_operator_s(operator, model, clock_hz, speed_up) for operator in workload.operators)
    p50_ms = total_s * 1_000
    return LatencyEstimate(
        p50_ms=p50_ms,
        low_ms=p50_ms / model.low_factor,
        high_ms=p50_ms * model.high_factor,
        method=f"roofline on {model.processor}, {precision}: {model.source}",
    )


def estimate_call(board: Board, parts: Mapping[Precision, Workload], threads: int = 1) -> LatencyEstimate:
    """Predicts one call of an engine: the operators of each precision, and the fixed cost of a call.

    An int8 model has float operators too: those that the quantizer left alone, and the steps between the two.

    Raises:
        BoardError: nothing on the board runs one of the precisions.
        ValueError: threads is below 1, or there is no part.
    """
    if not parts:
        raise ValueError("a call needs at least one part")
    call_ms = CALL_CYCLES / board.cpu.clock_hz * 1_000
    estimates = [estimate_latency(board, work, precision, threads) for precision, work in sorted(parts.items())]
    return LatencyEstimate(
        p50_ms=call_ms + sum(estimate.p50_ms for estimate in estimates),
        low_ms=call_ms / CALL_FACTOR + sum(estimate.low_ms for estimate in estimates),
        high_ms=call_ms * CALL_FACTOR + sum(estimate.high_ms for estimate in estimates),
        method=f"{call_ms * 1_000:.0f} us a call; " + "; ".join(estimate.method for estimate in estimates),
    )


def _choose_model(board: Board, precision: Precision, processor: str | None) -> LatencyModel:
    for model in board.latency:
        if model.precision == precision and processor in (None, model.processor):
            return model
    where = f" on {processor}" if processor else ""
    known = ", ".join(f"{model.precision} on {model.processor}" for model in board.latency) or "nothing"
    raise BoardError(
        f"board {board.name}: no latency model for {precision}{where}; it has: {known}. "
        "Add a [[latency]] table to the board file (docs/formats/target.md)."
    )


def _clock_hz(board: Board, processor: str) -> int:
    if processor == CPU:
        return board.cpu.clock_hz
    return next(accelerator.clock_hz for accelerator in board.accelerators if accelerator.name == processor)


def _speed_up(threads: int, parallel_fraction: float) -> float:
    """Amdahl's law."""
    return 1 / ((1 - parallel_fraction) + parallel_fraction / max(threads, 1))


def _operator_s(operator: OperatorCost, model: LatencyModel, clock_hz: int, speed_up: float) -> float:
    rates = model.macs_per_cycle
    rate = {"conv": rates.conv, "depthwise": rates.depthwise, "matmul": rates.matmul, "other": rates.conv}[
        operator.kind
    ]
    compute_s = operator.macs / (rate * clock_hz)
    transfer_s = (
        operator.activation_bytes / model.activation_bytes_per_s + operator.weight_bytes / model.weight_bytes_per_s
    )
    return model.operator_overhead_us / 1_000_000 + max(compute_s, transfer_s) / speed_up
