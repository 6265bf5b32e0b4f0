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
import csv
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy.optimize import least_squares

from bench import record
from bench.cost_workloads import MLPERF_TINY, MLPERF_TINY_MODELS, WINOGRAD, WORKLOADS
from edgewright.targets.board import CPU, Board, LatencyModel, MacRates, Precision
from edgewright.targets.boardfile import HOST
from edgewright.targets.catalog import load_board, shipped_path
from edgewright.targets.cost import OperatorCost, OperatorKind, Workload, estimate_latency

ANCHORS = Path(__file__).resolve().parents[2] / "shared/data/anchors"
KINDS: tuple[OperatorKind, ...] = ("conv", "depthwise", "matmul")
COLUMN_OF_KIND = {"conv": 0, "depthwise": 1, "matmul": 2, WINOGRAD: 3, "other": 0}
ELEMENT_BYTES = {"float32": 4, "float16": 2, "int8": 1}
Origin = Literal["ncnn", "vela", "onnxruntime"]
FOLDS = 8
MAX_NOISE = 1.5
"""A row whose slowest run took this many times its fastest was disturbed; it is left out."""

LIMITS = {"raspberry-pi-4": 0.20, "raspberry-pi-5": 0.20, "jetson-orin-nano": 0.25, "imx93": 0.25}
"""Median error that `--check` accepts. A constant number of cycles per MAC has 0.207 on MLPerf Tiny, held out."""


ENGINE_LEAST_BAND = 2.0
"""Small networks in ONNX Runtime, predicted from ncnn's timings, were up to this far off (`time_on_this_machine`)."""

VELA_LEAST_BAND = 2.0
"""Vela's estimates "can differ significantly" from hardware (ExecuTorch's Arm backend notes)."""

SKYLAKE_MS: dict[Precision, dict[str, float]] = {
    "float32": {
        "mlperf_ic": 0.302, "mlperf_kws": 0.127, "mlperf_vww": 0.381, "mlperf_ad": 0.084, "mobilenet_v2": 10.6,
    },
    "int8": {
        "mlperf_ic": 0.411, "mlperf_kws": 0.200, "mlperf_vww": 0.735, "mlperf_ad": 0.094, "mobilenet_v2": 8.78,
    },
}  # fmt: skip
"""ONNX Runtime 1.31.1, one thread, Skylake-SP without VNNI, measured for the project on 2026-11-20 (int8: U8S8)."""

VELA_NETWORKS = {
    "kws": "mlperf_kws", "ic": "mlperf_ic", "vww": "mlperf_vww", "ad": "mlperf_ad",
    "mobilenet_v2_1.0_224": "mobilenet_v2",
}  # fmt: skip


@dataclass(frozen=True)
class Anchor:
    """Measured rows that stand for one board and one processor of it."""

    board: str
    device: str
    """Start of the device's name in ncnn_benchmarks.csv."""
    threads: tuple[int, ...]
    clock_hz: int
    """Of the device that was measured, which need not be the board's."""
    processor: str = "cpu"
    precisions: tuple[Precision, ...] = ("float32", "int8")
    origin: Origin = "ncnn"
    least_band: float = ENGINE_LEAST_BAND
    """The band is at least this wide: it covers what held-out errors cannot know, such as an estimator's own error."""


ANCHORED = (
    Anchor("raspberry-pi-4", "Raspberry Pi 4 Model B", (1, 4), 1_800_000_000),
    Anchor("raspberry-pi-5", "Raspberry Pi 5 Broadcom BCM2712, Cortex", (1, 4), 2_400_000_000),
    Anchor("jetson-orin-nano", "NVIDIA Jetson Orin Nano", (1, 6), 1_510_000_000),
    Anchor("jetson-orin-nano", "NVIDIA Jetson Orin Nano", (1,), 625_000_000, "gpu", ("float32",)),
    Anchor("imx93", "OrangePicm4, Rockchip Rk3566", (1, 4), 1_800_000_000),
    Anchor("imx93", "Ethos_U65_256", (1,), 1_000_000_000, "ethos-u65", ("int8",), "vela", VELA_LEAST_BAND),
    Anchor("ethos-u55-128", "Ethos_U55_128", (1,), 500_000_000, "ethos-u55", ("int8",), "vela", VELA_LEAST_BAND),
    Anchor("x86-64-avx512", "Skylake-SP", (1,), 2_700_000_000, origin="onnxruntime"),
    Anchor("x86-64-avx2", "AMD EPYC 7742", (1,), 3_400_000_000),
    Anchor("x86-64-avx512-vnni", "Microsoft Azure Standard D64s v6", (1, 2, 4, 8), 3_000_000_000),
)


@dataclass(frozen=True)
class Measurement:
    """One measured latency."""

    network: str
    precision: Precision
    threads: int
    latency_ms: float


@dataclass(frozen=True)
class Network:
    """Operators of one network as columns, in elements."""

    kind: NDArray[np.int64]
    macs: NDArray[np.float64]
    weights: NDArray[np.float64]
    activations: NDArray[np.float64]
    count: NDArray[np.float64]


def read_networks() -> dict[str, Network]:
    """The committed operator table."""
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    with WORKLOADS.open(newline="") as file:
        for row in csv.DictReader(file):
            kind = COLUMN_OF_KIND[row["kind"]]
            sizes = (float(row[key]) for key in ("macs", "weight_elements", "activation_elements", "count"))
            rows[row["model"]].append((kind, *sizes))
    networks = {}
    for name, table in rows.items():
        columns = np.array(table).T
        networks[name] = Network(columns[0].astype(np.int64), *columns[1:])
    return networks


def workload(network: Network, precision: Precision) -> Workload:
    """The same network as the shipped function wants it; Winograd convolutions are not told apart there."""
    width = ELEMENT_BYTES[precision]
    operators = []
    columns = zip(network.kind, network.macs, network.weights, network.activations, network.count, strict=True)
    for kind, macs, weights, activations, count in columns:
        cost = OperatorCost(
            kind=KINDS[kind % len(KINDS)] if macs else "other",
            macs=int(macs),
            weight_bytes=int(weights * width),
            activation_bytes=int(activations * width),
        )
        operators.extend([cost] * int(count))
    return Workload(operators=tuple(operators))


def read_measurements(anchor: Anchor, networks: Mapping[str, Network]) -> list[Measurement]:
    """What was measured (or estimated by the vendor's compiler) for an anchor."""
    if anchor.origin == "vela":
        return read_vela(anchor)
    if anchor.origin == "onnxruntime":
        return [Measurement(name, p, 1, ms) for p in anchor.precisions for name, ms in SKYLAKE_MS[p].items()]
    return read_ncnn(anchor, networks)


def read_vela(anchor: Anchor) -> list[Measurement]:
    """Vela's own latency estimates for that accelerator."""
    with (ANCHORS / "ethosu_vela_5.2.0_summaries.csv").open(newline="", encoding="utf-8") as file:
        return [
            Measurement(VELA_NETWORKS[row["key"]], "int8", 1, float(row["inference_time"]) * 1_000)
            for row in csv.DictReader(file)
            if row["accelerator_configuration"] == anchor.device and row["key"] in VELA_NETWORKS
        ]


def read_ncnn(anchor: Anchor, networks: Mapping[str, Network]) -> list[Measurement]:
    """Rows of that device whose network is known and whose timing was calm."""
    gpu = "-1" if anchor.processor == "cpu" else "0"
    measurements = []
    with (ANCHORS / "ncnn_benchmarks.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            network = row["model"].replace("-", "_")
            precision: Precision = "int8" if network.endswith("_int8") else "float32"
            wanted = row["device"].startswith(anchor.device) and row["gpu_device"] == gpu
            wanted = wanted and int(row["num_threads"]) in anchor.threads and precision in anchor.precisions
            calm = float(row["max_ms"]) <= MAX_NOISE * float(row["min_ms"])
            if wanted and calm and network in networks:
                measurements.append(Measurement(network, precision, int(row["num_threads"]), float(row["avg_ms"])))
    return measurements


PRIORS: dict[Origin, dict[str, float]] = {
    "ncnn": {
        "conv": 4.0, "depthwise": 1.5, "matmul": 2.0, WINOGRAD: 8.0,
        "activation_rate": 6e9, "weight_rate": 4e9,
    },
    "onnxruntime": {
        "conv": 14.0, "depthwise": 4.0, "matmul": 8.0, WINOGRAD: 14.0,
        "activation_rate": 2e10, "weight_rate": 1e10, "overhead_us": 2.0,
    },
    "vela": {
        "conv": 60.0, "depthwise": 15.0, "matmul": 8.0, WINOGRAD: 60.0,
        "activation_rate": 4e9, "weight_rate": 7e8, "overhead_us": 0.5,
    },
}  # fmt: skip
FITTED_RATES = (*KINDS, WINOGRAD)
"""The last one is fitted so that it does not spoil `conv`, and is not shipped: ONNX Runtime has no Winograd kernels."""

INT8_GAIN = 1.3
"""Prior of int8 rate / float32 rate: few networks were timed in int8, so the gain is fitted, not the rate."""

PRIOR_WEIGHT = 0.15
"""In units of log error: keeps a constant near its prior where no network of the anchor tells it."""

X86_PARALLEL_FRACTION = 0.78
"""That of the Xeon with 1 to 8 threads, for the x86 anchors that were timed with one."""

OVERHEAD_CYCLES = 5_400
"""Per operator, in ONNX Runtime (about what SKYLAKE_MS tells: 2 us at 2.7 GHz).

The ncnn anchors are large networks in another engine: fitted freely on them, the overhead took up other errors, and
small networks on this machine came out 7 to 25 times too slow.
"""
OVERHEAD_PRIOR_WEIGHT = {"ncnn": 20.0, "onnxruntime": PRIOR_WEIGHT, "vela": PRIOR_WEIGHT}


def unpack(vector: NDArray[np.float64], precisions: Sequence[Precision]) -> dict[str, Any]:
    """Constants from the vector of their logarithms; the last entry is the logit of the parallel fraction."""
    width = len(FITTED_RATES)
    rates = {p: np.exp(vector[width * at : width * at + width]) for at, p in enumerate(precisions)}
    if len(precisions) > 1:
        rates["int8"] = rates["int8"] * rates["float32"]
    activation_rate, weight_rate, overhead_us = np.exp(vector[-4:-1])
    return {
        "rates": rates, "activation_rate": activation_rate, "weight_rate": weight_rate, "overhead_us": overhead_us,
        "parallel": 1 / (1 + np.exp(-vector[-1])),
    }  # fmt: skip


def predict_ms(constants: dict[str, Any], network: Network, measured: Measurement, clock_hz: int) -> float:
    """`estimate_latency`, vectorised; a check in `evaluate` holds the two together."""
    width = ELEMENT_BYTES[measured.precision]
    rates = constants["rates"][measured.precision][network.kind]
    compute_s = network.macs / (rates * clock_hz)
    transfer_s = width * (
        network.activations / constants["activation_rate"] + network.weights / constants["weight_rate"]
    )
    speed_up = 1 / ((1 - constants["parallel"]) + constants["parallel"] / measured.threads)
    per_operator_s = constants["overhead_us"] / 1e6 + np.maximum(compute_s, transfer_s) / speed_up
    return float((per_operator_s * network.count).sum()) * 1_000


def fit(anchor: Anchor, measurements: Sequence[Measurement], networks: Mapping[str, Network]) -> dict[str, Any]:
    """Constants with the least robust log error, pulled gently to the prior."""
    known = PRIORS[anchor.origin]
    overhead_us = OVERHEAD_CYCLES / anchor.clock_hz * 1e6 if anchor.origin == "ncnn" else known["overhead_us"]
    float_prior = [known[kind] for kind in FITTED_RATES]
    prior = np.log(float_prior + [INT8_GAIN] * len(FITTED_RATES) * (len(anchor.precisions) - 1))
    shared = np.log([known["activation_rate"], known["weight_rate"], overhead_us])
    start = np.concatenate([prior, shared, [2.0]])
    weights = np.full(start.size, PRIOR_WEIGHT)
    weights[-2] = OVERHEAD_PRIOR_WEIGHT[anchor.origin]

    def residuals(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        constants = unpack(vector, anchor.precisions)
        errors = [
            np.log(predict_ms(constants, networks[m.network], m, anchor.clock_hz) / m.latency_ms) for m in measurements
        ]
        return np.concatenate([errors, weights * (vector - start)])

    solution = least_squares(residuals, start, loss="soft_l1", f_scale=0.2, bounds=(start - 4, start + 4))
    return unpack(solution.x, anchor.precisions)


def held_out_errors(
    anchor: Anchor, measurements: Sequence[Measurement], networks: Mapping[str, Network]
) -> list[tuple[Measurement, float]]:
    """Log of predicted / measured, each from constants that never saw the network (nor its int8 twin)."""
    groups = sorted({m.network.removesuffix("_int8") for m in measurements})
    fold_of = {group: at % FOLDS for at, group in enumerate(groups)}
    errors = []
    for fold in range(FOLDS):
        inside = [m for m in measurements if fold_of[m.network.removesuffix("_int8")] != fold]
        outside = [m for m in measurements if fold_of[m.network.removesuffix("_int8")] == fold]
        constants = fit(anchor, inside, networks)
        for m in outside:
            predicted = predict_ms(constants, networks[m.network], m, anchor.clock_hz)
            errors.append((m, float(np.log(predicted / m.latency_ms))))
    return errors


def band(errors: Iterable[float]) -> tuple[float, float]:
    """(low_factor, high_factor): 95 % of the measurements lie above estimate / low, 95 % below estimate * high."""
    logs = np.array(list(errors))
    return float(np.exp(max(np.quantile(logs, 0.95), 0.0))), float(np.exp(max(-np.quantile(logs, 0.05), 0.0)))


def fitted_models(
    anchor: Anchor, constants: dict[str, Any], errors: Sequence[tuple[Measurement, float]]
) -> list[LatencyModel]:
    """What goes into the board file."""
    models = []
    for precision in anchor.precisions:
        of_precision = [error for m, error in errors if m.precision == precision]
        low, high = (max(factor, anchor.least_band) for factor in band(of_precision))
        median = float(np.median(np.abs(np.expm1(of_precision))))
        conv, depthwise, matmul = (float(f"{rate:.3g}") for rate in constants["rates"][precision][: len(KINDS)])
        models.append(
            LatencyModel(
                precision=precision,
                processor=anchor.processor,
                macs_per_cycle=MacRates(conv=conv, depthwise=depthwise, matmul=matmul),
                activation_bytes_per_s=round_to(constants["activation_rate"], 3),
                weight_bytes_per_s=round_to(constants["weight_rate"], 3),
                operator_overhead_us=float(f"{constants['overhead_us']:.3g}"),
                parallel_fraction=parallel_fraction(anchor, constants),
                low_factor=float(f"{low:.3g}"),
                high_factor=float(f"{high:.3g}"),
                source=f"bench/cost.py: {len(of_precision)} {describe(anchor)}; median held-out error {median:.0%}",
            )
        )
    return models


def parallel_fraction(anchor: Anchor, constants: dict[str, Any]) -> float:
    """As fitted; where one thread was timed only, an accelerator has none and an x86 CPU another one's."""
    if len(anchor.threads) > 1:
        return float(f"{constants['parallel']:.3f}")
    return X86_PARALLEL_FRACTION if anchor.processor == CPU else 0.0


def describe(anchor: Anchor) -> str:
    """What the constants were fitted on."""
    device = anchor.device.strip(" ,")
    if anchor.origin == "vela":
        return f"estimates of Arm's ethos-u-vela 5.2.0 for {device}"
    if anchor.origin == "onnxruntime":
        return f"ONNX Runtime 1.31.1 timings on {device}"
    return f"ncnn timings on {device}{' (GPU, Vulkan)' if anchor.processor == 'gpu' else ''}"


def round_to(value: float, digits: int) -> int:
    """The value with that many significant digits."""
    return int(float(f"{value:.{digits}g}"))


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
        figures[f"{anchor.board}/{anchor.processor}"] = figure
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
