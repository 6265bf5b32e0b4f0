"""What an operator on the CPU costs, by a simple estimate: the board's own constants for the cores, and the way there.

    cost = operator on one core (targets.cost) + 2 * TRANSITION_CYCLES / clock of the cores

An operator between two parts of the network ends one command stream and begins another: the core is woken by the NPU's
interrupt, caches are cleaned and invalidated, and the NPU is started again.
"""

from __future__ import annotations

import math
from typing import Final

from edgewright.targets.board import CPU, Board, Precision
from edgewright.targets.cost import OperatorCost, OperatorKind, Workload, estimate_latency

from ...tflite.file.model import ABSENT, NUMPY, Model, Operator, Tensor
from .rewrites.draft import number

TRANSITION_CYCLES: Final = 10_000
"""Of the cores, for one change of processor. An assumption: Arm publishes no figure, and it depends on the driver."""

FLOATS = frozenset({"FLOAT32", "FLOAT16", "FLOAT64"})


def cpu_cost_ms(model: Model, operator: Operator, board: Board) -> float | None:
    """Milliseconds of one inference; None where the board has no constants for its cores in that precision."""
    precision: Precision = "float32" if FLOATS & {tensor.type for tensor in _tensors(model, operator)} else "int8"
    known = {one.precision for one in board.latency if one.processor == CPU}
    if precision not in known:
        return None
    work = Workload(operators=(operator_cost(model, operator),))
    compute_ms = estimate_latency(board, work, precision, processor=CPU).p50_ms
    return compute_ms + 2 * TRANSITION_CYCLES / board.cpu.clock_hz * 1_000


def operator_cost(model: Model, operator: Operator) -> OperatorCost:
    """The work of a TFLite operator at the shapes of the file."""
    inputs = [model.tensors[index] for index in operator.inputs if index != ABSENT]
    outputs = [model.tensors[index] for index in operator.outputs]
    kind, macs = _macs(operator, inputs, outputs)
    return OperatorCost(
        kind=kind,
        macs=macs,
        weight_bytes=sum(_bytes(tensor) for tensor in inputs if tensor.data is not None),
        activation_bytes=sum(_bytes(tensor) for tensor in (*inputs, *outputs) if tensor.data is None),
    )


def _macs(operator: Operator, inputs: list[Tensor], outputs: list[Tensor]) -> tuple[OperatorKind, int]:
    """Filters are (out, height, width, in), of depthwise convolutions (1, height, width, out).

    An element of a pooling window counts as a product: it is read and added, or compared.
    """
    if operator.type in {"AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"}:
        window = number(operator, "filterHeight") * number(operator, "filterWidth")
        return "depthwise", math.prod(outputs[0].shape) * max(window, 0)
    match operator.type, [tensor.shape for tensor in inputs], [tensor.shape for tensor in outputs]:
        case "CONV_2D", [_, (_, height, width, channels), *_], [shape, *_]:
            return "conv", math.prod(shape) * height * width * channels
        case "DEPTHWISE_CONV_2D", [_, (_, height, width, _), *_], [shape, *_]:
            return "depthwise", math.prod(shape) * height * width
        case "TRANSPOSE_CONV", [_, (channels, height, width, _), shape, *_], _:
            return "conv", math.prod(shape) * height * width * channels
        case "FULLY_CONNECTED", [_, (_, features), *_], [shape, *_]:
            return "matmul", math.prod(shape) * features
        case "BATCH_MATMUL", [(*_, features), *_], [shape, *_]:
            return "matmul", math.prod(shape) * features
    return "other", 0


def _tensors(model: Model, operator: Operator) -> list[Tensor]:
    return [model.tensors[index] for index in (*operator.inputs, *operator.outputs) if index != ABSENT]


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * NUMPY[tensor.type]().itemsize
