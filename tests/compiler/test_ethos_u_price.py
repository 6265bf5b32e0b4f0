"""What an operator costs on the CPU."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from edgewright.compiler.lower.ethos_u.price import TRANSITION_CYCLES, cpu_cost_ms, operator_cost
from edgewright.compiler.tflite.file.model import Model
from edgewright.targets.catalog import load_board
from edgewright.targets.cost import OperatorCost, Workload, estimate_latency
from tests.compiler import ethos_u_nets as nets

BOARD = load_board("ethos-u55-128")


@pytest.mark.parametrize(
    ("model", "kind", "macs"),
    [
        (nets.convolution(5), "conv", 7 * 7 * 8 * 3 * 3 * 4),
        (nets.depthwise(5), "depthwise", 7 * 7 * 4 * 3 * 3),
        (nets.pool("MAX_POOL_2D", 4, 5), "depthwise", 8 * 8 * 4 * 5 * 5),
        (nets.gather([1, 3]), "other", 0),
    ],
)
def test_products_are_counted(model: Model, kind: str, macs: int) -> None:
    cost = operator_cost(model, model.operators[0])
    assert (cost.kind, cost.macs) == (kind, macs)


def test_bytes_are_counted_by_type() -> None:
    model = nets.float_ports()
    cost = operator_cost(model, model.operators[0])
    assert cost == OperatorCost(kind="other", macs=0, weight_bytes=0, activation_bytes=8 * 8 * 4 * (4 + 1))
    model = nets.convolution()
    assert operator_cost(model, model.operators[0]).weight_bytes == 8 * 3 * 3 * 4 + 8 * 4


def test_fully_connected_layers() -> None:
    net = nets.Net()
    source = net.tensor("in", (2, 16))
    weights = net.tensor("weights", (8, 16))
    model = net.model([source], [net.add("FULLY_CONNECTED", [source, weights, -1], net.tensor("out", (2, 8)))])
    assert operator_cost(model, model.operators[0]).macs == 2 * 8 * 16


def test_the_estimate_is_the_boards_and_the_way_there() -> None:
    model = nets.convolution(5)
    work = Workload(operators=(operator_cost(model, model.operators[0]),))
    alone = estimate_latency(BOARD, work, "int8", processor="cpu").p50_ms
    way = 2 * TRANSITION_CYCLES / BOARD.cpu.clock_hz * 1_000
    assert cpu_cost_ms(model, model.operators[0], BOARD) == pytest.approx(alone + way)


def test_floats_cost_more() -> None:
    model = nets.convolution(5)
    floats = replace(model, tensors=tuple(replace(tensor, type="FLOAT32") for tensor in model.tensors))
    in_int8, in_float = (cpu_cost_ms(each, each.operators[0], BOARD) for each in (model, floats))
    assert in_int8 is not None
    assert in_float is not None
    assert in_float > in_int8


def test_without_constants_nothing_is_claimed() -> None:
    board = msgspec.structs.replace(BOARD, latency=BOARD.latency[:1])
    model = nets.convolution(5)
    assert cpu_cost_ms(model, model.operators[0], board) is None
