"""What does `edgewright compile` deliver? Real nets, real data: what ships, how fast, how good, and the same again?

    python -m bench.compile             all nets
    python -m bench.compile --quick     two nets, fewer samples
    python -m bench.compile --check     also exit 1 where something slower than float shipped, or a rebuild differed

Nets and data are in ../shared/data, which is not part of the project; nets that are not there are skipped. Labels exist
for MNIST and KWS; the others get noise in their input range and are held against their own float outputs (SNR).
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench import record
from edgewright.compiler.measure import read as read_measurements
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.report.schema import Report, TargetReport
from edgewright.compiler.request import Request

SHARED = Path(__file__).resolve().parents[2] / "shared/data"
TARGETS = ("host", "raspberry-pi-5")
NOISE_SAMPLES = 400
QUICK_SAMPLES = 2000

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Net:
    """A model file, its data, and how its input is prepared."""

    name: str
    model: str
    data: Callable[[int], Arrays]
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None


def mnist(samples: int) -> Arrays:
    images = gzip.decompress((SHARED / "mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((SHARED / "mnist/t10k-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(images[16:], dtype=np.uint8).reshape(-1, 1, 28, 28)
    return {"x": x[:samples], "y": np.frombuffer(labels[8:], dtype=np.uint8)[:samples].astype(np.int64)}


def kws(samples: int) -> Arrays:
    with np.load(SHARED / "mlperf_tiny/kws01.npz", allow_pickle=False) as file:
        return {"x": file["x"][:samples], "y": file["y"][:samples]}


def noise(shape: tuple[int, ...], top: float) -> Callable[[int], Arrays]:
    def make(samples: int) -> Arrays:
        random = np.random.default_rng(0)
        count = min(samples, NOISE_SAMPLES)
        return {"x": (random.random(size=(count, *shape)) * top).astype(np.float32)}

    return make


NETS = (
    Net("mnist", "mnist/mnist.onnx", mnist),
    Net("kws", "mlperf_tiny/onnx/kws_f32.onnx", kws, mean=(83.0,), scale=(0.5847029,)),
    Net("ic", "mlperf_tiny/onnx/ic_resnet8_f32.onnx", noise((32, 32, 3), 255.0)),
    Net("vww", "mlperf_tiny/onnx/vww_f32.onnx", noise((96, 96, 3), 1.0)),
    Net("ad", "mlperf_tiny/onnx/ad_f32.onnx", noise((640,), 1.0)),
)
QUICK = ("mnist", "kws")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two nets, fewer samples")
    parser.add_argument("--check", action="store_true", help="exit 1 where a promise is broken")
    arguments = parser.parse_args()
    wanted = [net for net in NETS if not arguments.quick or net.name in QUICK]
    present = [net for net in wanted if (SHARED / net.model).exists()]
    if not present:
        print("skipped: no nets in ../shared/data")
        return 0
    samples = QUICK_SAMPLES if arguments.quick else sys.maxsize
    figures = {net.name: bench_net(net, samples) for net in present}
    print_table(figures)
    path = record.write("compile", figures, packages=("onnxruntime", "numpy"))
    print(f"written to {path.relative_to(Path(__file__).resolve().parents[1])}")
    broken = [
        name for name, figure in figures.items() if not (figure["never_worse"] and figure["rebuild_is_identical"])
    ]
    for name in broken:
        print(f"broken promise: {name}", file=sys.stderr)
    return 1 if arguments.check and broken else 0


def bench_net(net: Net, samples: int) -> dict[str, Any]:
    """Compiles for all targets, again from the record, and for one target alone."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        np.savez(work / "data.npz", **net.data(samples))  # type: ignore[arg-type]
        report, all_s = timed(net, work, "first", TARGETS)
        timed(net, work, "again", TARGETS, measurements=work / "first/measurements.json")
        _, one_s = timed(net, work, "one", TARGETS[:1])
        same = all(
            (work / "first" / f"{t}.bundle").read_bytes() == (work / "again" / f"{t}.bundle").read_bytes()
            for t in TARGETS
        )
        rounds = len(read_measurements(work / "first/measurements.json").rounds_ns)
    return {
        "metric": report.metric,
        "samples": report.source.samples,
        "targets": {target.target: target_figures(target) for target in report.targets},
        "never_worse": all(never_worse(target) for target in report.targets),
        "rebuild_is_identical": same,
        "measured_candidates": rounds,
        "compile_two_targets_s": round(all_s, 2),
        "compile_one_target_s": round(one_s, 2),
    }


def timed(
    net: Net, work: Path, out: str, targets: tuple[str, ...], measurements: Path | None = None
) -> tuple[Report, float]:
    request = Request(
        model=str(SHARED / net.model),
        targets=targets,
        data=work / "data.npz",
        out=work / out,
        mean=net.mean,
        scale=net.scale,
        measurements=measurements,
        engines=("onnxruntime",),  # native code has a bench of its own
    )
    start = time.perf_counter()
    report = compile_model(request)
    return report, time.perf_counter() - start


def target_figures(target: TargetReport) -> dict[str, Any]:
    rows = {row.name: row for row in target.candidates}
    return {
        "outcome": target.outcome,
        "chosen": target.chosen,
        "flags": list(target.flags),
        "candidates": {
            name: {
                "model_bytes": row.model_bytes,
                "latency_ms": row.latency.p50_ms,
                "latency_kind": row.latency.kind,
                "time_ratio": row.time_ratio,
                "value": row.test.value,
                "drop": row.test.drop,
                "drop_interval": [row.test.drop_interval.low, row.test.drop_interval.high],
                "snr_db": row.test.snr_db,
                "argmax_agreement": row.test.argmax_agreement,
            }
            for name, row in rows.items()
        },
    }


def never_worse(target: TargetReport) -> bool:
    """What ships is float, or faster than float and within the budget."""
    chosen = next(row for row in target.candidates if row.name == target.chosen)
    return chosen.precision == "float32" or (chosen.time_ratio < 1 and target.outcome == "shipped")


def print_table(figures: dict[str, dict[str, Any]]) -> None:
    table = Table(title="edgewright compile")
    for column in ("net", "target", "candidate", "KiB", "ms", "x float", "value", "drop", "SNR dB", "ships"):
        table.add_column(column, justify="left" if column in {"net", "target", "candidate"} else "right")
    for net, figure in figures.items():
        for target, found in figure["targets"].items():
            for name, row in found["candidates"].items():
                table.add_row(
                    net,
                    target,
                    name,
                    f"{row['model_bytes'] / 1024:.0f}",
                    f"{row['latency_ms']:.4f}" + ("" if row["latency_kind"] == "measured" else " est."),
                    f"{1 / row['time_ratio']:.2f}",
                    f"{row['value']:.4f}",
                    f"{row['drop']:.4f}",
                    "" if name == "float32" else f"{row['snr_db']:.1f}",
                    "yes" if name == found["chosen"] else "",
                )
        table.add_section()
    Console(width=130).print(table)
    for net, figure in figures.items():
        print(
            f"{net}: two targets {figure['compile_two_targets_s']} s, one {figure['compile_one_target_s']} s, "
            f"rebuild identical: {figure['rebuild_is_identical']}, never worse: {figure['never_worse']}"
        )


if __name__ == "__main__":
    sys.exit(main())
