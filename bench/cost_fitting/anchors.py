"""What bench/cost.py fits on: measured (or vendor-estimated) latencies, and the operators of the networks timed."""

from __future__ import annotations

import csv
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.cost_fitting.workloads import WINOGRAD, WORKLOADS
from edgewright.compiler.lower.ethos_u.build import vela_of
from edgewright.compiler.lower.ethos_u.summary import read_summary
from edgewright.compiler.lower.ethos_u.vela import run_vela
from edgewright.targets.board import Precision
from edgewright.targets.catalog import load_board
from edgewright.targets.cost import OperatorCost, OperatorKind, Workload

ANCHORS = Path(__file__).resolve().parents[3] / "shared/data/anchors"
KINDS: tuple[OperatorKind, ...] = ("conv", "depthwise", "matmul")
COLUMN_OF_KIND = {"conv": 0, "depthwise": 1, "matmul": 2, WINOGRAD: 3, "other": 0}
ELEMENT_BYTES = {"float32": 4, "float16": 2, "int8": 1}
Origin = Literal["ncnn", "vela", "vela-here", "onnxruntime", "mlperf_tiny"]
MAX_NOISE = 1.5
"""A row whose slowest run took this many times its fastest was disturbed; it is left out."""

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

MICROCONTROLLER_LEAST_BAND = 3.0
"""Four networks tell five constants, a Cortex-M55 is not a Cortex-M85, and the kernels are the vendor's own."""

VELA_MODELS = {
    "mlperf_kws": "kws_ref_model_int8", "mlperf_ic": "pretrainedResnet_int8", "mlperf_vww": "vww_96_int8",
    "mlperf_ad": "ad01_int8",
}  # fmt: skip

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


ETHOS_U55: tuple[tuple[int, Origin], ...] = ((32, "vela"), (64, "vela-here"), (128, "vela"), (256, "vela"))
ETHOS_LARGE: tuple[tuple[str, Origin], ...] = (("u65", "vela"), ("u85", "vela-here"))


def ethos(board: str, origin: Origin, clock_hz: int) -> tuple[Anchor, ...]:
    """The NPU first, which is preferred for int8, then the core beside it.

    One core stands for all: the only one with vectors (Helium) that MLPerf Tiny has in int8 is a Cortex-M85, the only
    one in float32 a Cortex-M7.
    """
    npu = board.rsplit("-", 1)[0]
    device = board.title().replace("-", "_")
    return (
        Anchor(board, device, (1,), clock_hz, npu, ("int8",), origin, VELA_LEAST_BAND),
        Anchor(board, "EK-RA8D1", (1,), 480_000_000, "cpu", ("int8",), "mlperf_tiny", MICROCONTROLLER_LEAST_BAND),
        Anchor(
            board, "NUCLEO_H7A3ZI_float", (1,), 280_000_000, "cpu", ("float32",), "mlperf_tiny",
            MICROCONTROLLER_LEAST_BAND,
        ),
    )  # fmt: skip


ANCHORED = (
    Anchor("raspberry-pi-4", "Raspberry Pi 4 Model B", (1, 4), 1_800_000_000),
    Anchor("raspberry-pi-5", "Raspberry Pi 5 Broadcom BCM2712, Cortex", (1, 4), 2_400_000_000),
    Anchor("jetson-orin-nano", "NVIDIA Jetson Orin Nano", (1, 6), 1_510_000_000),
    Anchor("jetson-orin-nano", "NVIDIA Jetson Orin Nano", (1,), 625_000_000, "gpu", ("float32",)),
    Anchor("imx93", "OrangePicm4, Rockchip Rk3566", (1, 4), 1_800_000_000),
    Anchor("imx93", "Ethos_U65_256", (1,), 1_000_000_000, "ethos-u65", ("int8",), "vela", VELA_LEAST_BAND),
    *(anchor for macs, origin in ETHOS_U55 for anchor in ethos(f"ethos-u55-{macs}", origin, 500_000_000)),
    *(
        anchor
        for series, origin in ETHOS_LARGE
        for macs in (256, 512)
        for anchor in ethos(f"ethos-{series}-{macs}", origin, 1_000_000_000)
    ),
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
    if anchor.origin == "vela-here":
        return run_vela_here(anchor)
    if anchor.origin == "mlperf_tiny":
        return read_mlperf_tiny(anchor)
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


def run_vela_here(anchor: Anchor) -> list[Measurement]:
    """Its estimates for the board's own configuration, of which the summaries have none."""
    vela = vela_of(load_board(anchor.board))
    measurements = []
    with tempfile.TemporaryDirectory() as scratch:
        for network, name in VELA_MODELS.items():
            model = (ANCHORS.parent / "mlperf_tiny/models" / f"{name}.tflite").read_bytes()
            summary = read_summary(run_vela(model, vela, Path(scratch)).summary)
            measurements.append(Measurement(network, "int8", 1, summary.inference_s * 1_000))
    return measurements


def read_mlperf_tiny(anchor: Anchor) -> list[Measurement]:
    """Published results of that system, inferences per second."""
    with (ANCHORS / "mlperf_tiny_v1.2_summary.csv").open(newline="", encoding="utf-8") as file:
        return [
            Measurement(f"mlperf_{row['Model']}", anchor.precisions[0], 1, 1_000 / float(row["Result"]))
            for row in csv.DictReader(file)
            if row["SystemDesc"] == anchor.device and row["ResultUnit"] == "inf./sec."
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


def describe(anchor: Anchor) -> str:
    """What the constants were fitted on."""
    device = anchor.device.strip(" ,")
    if anchor.origin in {"vela", "vela-here"}:
        return f"estimates of Arm's ethos-u-vela 5.2.0 for {device}"
    if anchor.origin == "mlperf_tiny":
        core = "Cortex-M85 with Helium" if "RA8" in device else "Cortex-M7, which has no vectors"
        return f"results of MLPerf Tiny 1.2 on {device} ({core})"
    if anchor.origin == "onnxruntime":
        return f"ONNX Runtime 1.31.1 timings on {device}"
    return f"ncnn timings on {device}{' (GPU, Vulkan)' if anchor.processor == 'gpu' else ''}"
