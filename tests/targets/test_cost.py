"""The latency estimate: that it moves the right way, and that it holds on figures which are public."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.targets.board import Board, BoardError, LatencyModel
from edgewright.targets.catalog import board_names, load_board
from edgewright.targets.cost import CALL_CYCLES, OperatorCost, Workload, estimate_call, estimate_latency

BOARDS = {name: load_board(name) for name in board_names()[1:]}

operators = st.builds(
    OperatorCost,
    kind=st.sampled_from(["conv", "depthwise", "matmul", "other"]),
    macs=st.integers(0, 10**10),
    weight_bytes=st.integers(0, 10**8),
    activation_bytes=st.integers(0, 10**8),
)
workloads = st.builds(Workload, operators=st.lists(operators, max_size=8).map(tuple))
models = st.sampled_from([(board, model) for board in BOARDS.values() for model in board.latency])


@given(case=models, workload=workloads, extra=st.integers(1, 10**10), at=st.integers(0, 7))
def test_more_work_never_takes_less_time(
    case: tuple[Board, LatencyModel], workload: Workload, extra: int, at: int
) -> None:
    board, model = case
    if not workload.operators:
        return
    at %= len(workload.operators)
    before = estimate_latency(board, workload, model.precision, processor=model.processor)
    for field in ("macs", "weight_bytes", "activation_bytes"):
        grown = dataclasses.replace(workload.operators[at], **{field: getattr(workload.operators[at], field) + extra})
        changed = Workload(operators=(*workload.operators[:at], grown, *workload.operators[at + 1 :]))
        after = estimate_latency(board, changed, model.precision, processor=model.processor)
        assert after.p50_ms >= before.p50_ms


@given(case=models, workload=workloads, threads=st.integers(1, 16))
def test_another_thread_never_hurts_and_the_band_holds_the_estimate(
    case: tuple[Board, LatencyModel], workload: Workload, threads: int
) -> None:
    board, model = case
    fewer = estimate_latency(board, workload, model.precision, threads, processor=model.processor)
    more = estimate_latency(board, workload, model.precision, threads + 1, processor=model.processor)
    assert more.p50_ms <= fewer.p50_ms * (1 + 1e-9)
    assert fewer.low_ms <= fewer.p50_ms <= fewer.high_ms


@given(case=models, left=workloads, right=workloads)
def test_networks_in_a_row_take_the_sum_of_their_times(
    case: tuple[Board, LatencyModel], left: Workload, right: Workload
) -> None:
    board, model = case
    both = Workload(operators=left.operators + right.operators)
    total, *parts = (
        estimate_latency(board, workload, model.precision, processor=model.processor).p50_ms
        for workload in (both, left, right)
    )
    assert total == pytest.approx(sum(parts))


@given(case=models, left=workloads, right=workloads)
def test_a_call_costs_its_parts_and_once_the_way_in_and_out(
    case: tuple[Board, LatencyModel], left: Workload, right: Workload
) -> None:
    board, model = case
    empty = estimate_call(board, {model.precision: Workload(operators=())}).p50_ms
    assert empty == pytest.approx(CALL_CYCLES / board.cpu.clock_hz * 1_000)
    both = estimate_call(board, {model.precision: Workload(operators=left.operators + right.operators)})
    alone = estimate_latency(board, Workload(operators=left.operators + right.operators), model.precision)
    assert both.p50_ms == pytest.approx(empty + alone.p50_ms)
    assert both.low_ms <= both.p50_ms <= both.high_ms


def test_a_call_of_a_tiny_net_takes_tens_of_microseconds_on_a_small_core() -> None:
    tiny = Workload(operators=(OperatorCost(kind="matmul", macs=100, weight_bytes=400, activation_bytes=80),))
    estimate = estimate_call(BOARDS["raspberry-pi-4"], {"float32": tiny})
    assert 0.01 < estimate.p50_ms < 0.05
    assert estimate.high_ms / estimate.low_ms > 4
    assert "us a call" in estimate.method


def test_float_and_int8_parts_of_one_net_add_up() -> None:
    board = BOARDS["raspberry-pi-5"]
    mixed = estimate_call(board, {"int8": MOBILENET_V1, "float32": MOBILENET_V1})
    parts = [estimate_call(board, {precision: MOBILENET_V1}).p50_ms for precision in ("int8", "float32")]
    assert mixed.p50_ms == pytest.approx(sum(parts) - CALL_CYCLES / board.cpu.clock_hz * 1_000)


def test_a_call_of_nothing_is_no_question() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        estimate_call(BOARDS["raspberry-pi-5"], {})


def test_threads_beyond_the_cores_do_not_help() -> None:
    workload = Workload(operators=(OperatorCost(kind="conv", macs=10**9, weight_bytes=0, activation_bytes=0),))
    four = estimate_latency(BOARDS["raspberry-pi-5"], workload, "float32", 4)
    assert four.p50_ms < estimate_latency(BOARDS["raspberry-pi-5"], workload, "float32", 1).p50_ms
    assert four == estimate_latency(BOARDS["raspberry-pi-5"], workload, "float32", 64)


MOBILENET_V1 = Workload(
    operators=(
        *[OperatorCost(kind="conv", macs=40_000_000, weight_bytes=1_150_000, activation_bytes=1_500_000)] * 14,
        *[OperatorCost(kind="depthwise", macs=1_340_000, weight_bytes=13_000, activation_bytes=1_500_000)] * 13,
    )
)
"""MobileNet v1 at 224 x 224, float32, in even slices: 569 million MACs, 4.2 million weights."""


@pytest.mark.parametrize(
    ("board", "measured_ms"),
    [("raspberry-pi-4", 124.32), ("raspberry-pi-5", 20.30), ("jetson-orin-nano", 28.83)],
)
def test_a_published_timing_lies_in_the_band(board: str, measured_ms: float) -> None:
    # ncnn's benchmark table, mobilenet, one thread.
    estimate = estimate_latency(BOARDS[board], MOBILENET_V1, "float32")
    assert estimate.low_ms < measured_ms < estimate.high_ms


def test_an_estimate_says_where_it_comes_from() -> None:
    estimate = estimate_latency(BOARDS["raspberry-pi-5"], MOBILENET_V1, "float32")
    assert "ncnn timings on Raspberry Pi 5" in estimate.method
    assert "held-out error" in estimate.method


def test_a_processor_can_be_named() -> None:
    cpu = estimate_latency(BOARDS["imx93"], MOBILENET_V1, "int8")
    npu = estimate_latency(BOARDS["imx93"], MOBILENET_V1, "int8", processor="ethos-u65")
    assert npu.p50_ms < cpu.p50_ms / 5


def test_a_precision_that_nothing_runs_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        BoardError, match="ethos-u55-128: no latency model for float16; it has: int8 on ethos-u55, int8 on cpu"
    ):
        estimate_latency(BOARDS["ethos-u55-128"], MOBILENET_V1, "float16")


@pytest.mark.parametrize("threads", [0, -1])
def test_no_thread_is_no_question(threads: int) -> None:
    with pytest.raises(ValueError, match="threads must be at least 1"):
        estimate_latency(BOARDS["raspberry-pi-5"], MOBILENET_V1, "float32", threads)


def test_negative_work_is_refused() -> None:
    with pytest.raises(ValueError, match="macs must not be negative"):
        OperatorCost(kind="conv", macs=-1, weight_bytes=0, activation_bytes=0)
