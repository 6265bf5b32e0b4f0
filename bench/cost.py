"""How far off is `edgewright.targets.cost`? Fits its constants on measured latencies and reports held-out errors.

    python -m bench.cost             fit, print held-out errors and those of the shipped constants, write results
    python -m bench.cost --quick     only look at the constants that ship, without fitting
    python -m bench.cost --check     also exit 1 where the shipped constants are worse than LIMITS says
    python -m bench.cost --write     also write the fitted constants into the board files

The latencies are in ../shared/data (ncnn_benchmarks.csv of Tencent/ncnn, Vela's summaries), which is not part of the
project; without it this bench says so and exits 0. Held out means: the constants are fitted without the network that
they predict. The formula that is fitted is the shipped `estimate_latency` itself, in numpy for speed; the errors that
are reported come from the shipped function.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from bench import record
from bench.cost_fitting.anchors import (
    ANCHORED,
    ANCHORS,
    COLUMN_OF_KIND,
    Anchor,
    Measurement,
    Network,
    describe,
    read_measurements,
    read_networks,
    workload,
)
from bench.cost_fitting.fit import constants_of, fit, fitted_models, held_out_errors, predict_ms
from bench.cost_fitting.workloads import MLPERF_TINY, MLPERF_TINY_MODELS, WINOGRAD
from edgewright.targets.board import Board, LatencyModel
from edgewright.targets.boardfile import HOST
from edgewright.targets.catalog import load_board, shipped_path
from edgewright.targets.cost import estimate_latency

LIMITS = {"raspberry-pi-4": 0.20, "raspberry-pi-5": 0.20, "jetson-orin-nano": 0.25, "imx93": 0.25}
"""Median error that `--check` accepts. A constant number of cycles per MAC has 0.207 on MLPerf Tiny, held out."""


def winograd_share(network: Network) -> float:
    """Part of the work that ncnn does by Winograd's method, which the shipped constants do not cover on purpose."""
    return float((network.macs * network.count)[network.kind == COLUMN_OF_KIND[WINOGRAD]].sum()) / max(
        float((network.macs * network.count).sum()), 1.0
    )


def evaluate(
    board: Board, anchor: Anchor, measurements: Sequence[Measurement], networks: Mapping[str, Network]
) -> dict[str, Any]:
    """Errors of the shipped `estimate_latency` with the board's constants, at the clock that was measured."""
    at_clock = board_at_clock(board, anchor)
    figures: dict[str, Any] = {}
    for precision in anchor.precisions:
        ratios, covered = [], []
        for m in measurements:
            if m.precision != precision or (anchor.origin == "ncnn" and winograd_share(networks[m.network]) > 0.1):
                continue
            work = workload(networks[m.network], precision)
            estimate = estimate_latency(at_clock, work, precision, m.threads, processor=anchor.processor)
            check_formula(at_clock, anchor, networks[m.network], m, estimate.p50_ms)
            ratios.append(estimate.p50_ms / m.latency_ms)
            covered.append(estimate.low_ms <= m.latency_ms <= estimate.high_ms)
        errors = np.abs(np.array(ratios) - 1)
        figures[precision] = {
            "measurements": len(ratios),
            "median_error": round(float(np.median(errors)), 3),
            "p90_error": round(float(np.quantile(errors, 0.9)), 3),
            "inside_band": round(float(np.mean(covered)), 3),
        }
    return figures


def check_formula(board: Board, anchor: Anchor, network: Network, m: Measurement, estimate_ms: float) -> None:
    """The formula that is fitted is the one that ships."""
    model = next(x for x in board.latency if (x.precision, x.processor) == (m.precision, anchor.processor))
    fitted_ms = predict_ms(constants_of(model), network, m, anchor.clock_hz)
    if abs(fitted_ms / estimate_ms - 1) > 1e-6:
        raise AssertionError(f"{board.name}, {m.network}: the bench says {fitted_ms} ms, the package {estimate_ms} ms")


def board_at_clock(board: Board, anchor: Anchor) -> Board:
    """The board with the clock and the cores of the device that was measured."""
    if anchor.processor == "cpu":
        cores = max(board.cpu.cores, *anchor.threads)
        return msgspec.structs.replace(
            board, cpu=msgspec.structs.replace(board.cpu, clock_hz=anchor.clock_hz, cores=cores)
        )
    return board


def latency_toml(model: LatencyModel) -> str:
    """A [[latency]] table to paste into a board file."""
    rates = model.macs_per_cycle
    return "\n".join(
        [
            "[[latency]]",
            f'precision = "{model.precision}"',
            f'processor = "{model.processor}"',
            f"macs_per_cycle = {{ conv = {rates.conv}, depthwise = {rates.depthwise}, matmul = {rates.matmul} }}",
            f"activation_bytes_per_s = {model.activation_bytes_per_s:_}",
            f"weight_bytes_per_s = {model.weight_bytes_per_s:_}",
            f"operator_overhead_us = {model.operator_overhead_us}",
            f"parallel_fraction = {model.parallel_fraction}",
            f"low_factor = {model.low_factor}",
            f"high_factor = {model.high_factor}",
            f'source = "{model.source}"',
            "",
        ]
    )


def main() -> int:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if not ANCHORS.is_dir():
        print("bench/cost.py: skipped: the measured latencies (../shared/data/anchors) are not on this machine")
        return 0
    networks = read_networks()
    figures: dict[str, Any] = {}
    fitted: dict[str, list[LatencyModel]] = defaultdict(list)
    for anchor in ANCHORED:
        measurements = read_measurements(anchor, networks)
        figure: dict[str, Any] = {"anchor": describe(anchor), "shipped": None}
        if not options.quick:
            errors = held_out_errors(anchor, measurements, networks)
            fitted[anchor.board] += fitted_models(anchor, fit(anchor, measurements, networks), errors)
            figure["held_out"] = held_out_figures(anchor, errors)
        if options.write:
            write_latency(anchor.board, fitted[anchor.board])
        figure["shipped"] = evaluate(load_board(anchor.board), anchor, measurements, networks)
        key = f"{anchor.board}/{anchor.processor}"
        figures[key if key not in figures else f"{key} {anchor.precisions[0]}"] = figure
    print_table(figures)
    if transfer := time_on_this_machine(networks):
        figures["this machine, ONNX Runtime"] = transfer
        print_transfer(transfer)
    if not options.quick:
        print(f"written: {record.write('cost', figures, packages=('numpy', 'scipy'))}")
    return report_misses(figures) if options.check else 0


def held_out_figures(anchor: Anchor, errors: Sequence[tuple[Measurement, float]]) -> dict[str, Any]:
    """Median and 90th percentile of the relative error, per precision."""
    figures: dict[str, Any] = {}
    for precision in anchor.precisions:
        relative = np.abs(np.expm1([error for m, error in errors if m.precision == precision]))
        figures[precision] = {
            "measurements": len(relative),
            "median_error": round(float(np.median(relative)), 3),
            "p90_error": round(float(np.quantile(relative, 0.9)), 3),
        }
    return figures


def write_latency(board: str, models: Sequence[LatencyModel]) -> None:
    """Replaces the [[latency]] tables at the end of a board's file."""
    path = shipped_path(board)
    facts = path.read_text(encoding="utf-8").partition("\n[[latency]]")[0].rstrip("\n")
    tables = "\n".join(latency_toml(model) for model in models)
    path.write_text(f"{facts}\n\n{tables}", encoding="utf-8")


def time_on_this_machine(networks: Mapping[str, Network]) -> dict[str, dict[str, float]]:
    """Predicted and measured latency of the MLPerf Tiny networks on this machine with another engine."""
    host = load_board(HOST)
    results = {}
    for name in MLPERF_TINY:
        key = f"mlperf_{name.partition('_')[0]}"
        estimate = estimate_latency(host, workload(networks[key], "float32"), "float32")
        results[key] = {
            "measured_ms": round(onnxruntime_ms(MLPERF_TINY_MODELS / f"{name}_f32.onnx"), 4),
            "estimate_ms": round(estimate.p50_ms, 4),
            "low_ms": round(estimate.low_ms, 4),
            "high_ms": round(estimate.high_ms, 4),
        }
    return results


def onnxruntime_ms(path: Path) -> float:
    """Median of one-thread inferences at batch 1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {
        value.name: np.zeros([size if isinstance(size, int) else 1 for size in value.shape], np.float32)
        for value in session.get_inputs()
    }
    samples = []
    for _ in range(200):
        start = time.perf_counter()
        session.run(None, feeds)
        samples.append(time.perf_counter() - start)
    return float(np.median(samples)) * 1_000


def print_transfer(transfer: Mapping[str, Mapping[str, float]]) -> None:
    """The table of `time_on_this_machine`."""
    print("\nthis machine, ONNX Runtime, float32, one thread (its constants are borrowed from a shipped board)")
    for name, row in transfer.items():
        band = f"{row['low_ms']:.3f} .. {row['high_ms']:.3f}"
        print(f"{name:14} measured {row['measured_ms']:7.3f} ms   estimate {row['estimate_ms']:7.3f} ms  [{band}]")


def print_table(figures: Mapping[str, Any]) -> None:
    """One line per board, processor and precision."""
    print(f"{'board/processor':26} {'precision':9} {'n':>4}  {'held-out median / p90':>22}  {'shipped':>8}  in band")
    for name, figure in figures.items():
        for precision, shipped in figure["shipped"].items():
            held_out = figure.get("held_out", {}).get(precision)
            text = f"{held_out['median_error']:.1%} / {held_out['p90_error']:.1%}" if held_out else "-"
            errors = f"{shipped['median_error']:>8.1%}  {shipped['inside_band']:.0%}"
            print(f"{name:26} {precision:9} {shipped['measurements']:>4}  {text:>22}  {errors}")


def report_misses(figures: Mapping[str, Any]) -> int:
    """1 where a figure is worse than its limit."""
    misses = []
    for board, limit in LIMITS.items():
        shipped = figures[f"{board}/cpu"]["shipped"]["float32"]["median_error"]
        if shipped > limit:
            misses.append(f"{board}: median error {shipped:.1%}, limit {limit:.0%}")
    print("\n".join(misses) or "all figures within their limits")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
