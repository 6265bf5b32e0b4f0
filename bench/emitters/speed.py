"""How fast LiteRT runs what we write, beside the files that others wrote of the same net."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.emitters.forms import Forms
from bench.emitters.lossless import AS_STORED
from bench.quantizers.environment import peers_python, run_script
from edgewright.compiler.measure import median_interval
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.model import Tensor
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.versions import versioned
from edgewright.compiler.tflite.file.write import write

SCRIPTS = Path(__file__).resolve().parent / "scripts"
PINS = ("ai-edge-litert==2.3.0", "ai-edge-quantizer==0.10.0", "numpy==2.4.6")
RECIPE = "static_wi8_ai8"
OURS_INT8 = "ours int8"
PAIRS = {"float": ("ours float", "reference float"), "int8": (OURS_INT8, "ai-edge-quantizer int8")}
"""Ours and whom it is held against, by precision; of our int8, the plan that is the fastest here."""
THREADS = (1, 2)


def raced(forms: Forms, rounds: int) -> dict[str, Any]:
    """Time of theirs over ours, round by round, and all times in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        files = models(forms, Path(folder))
        np.savez(Path(folder) / "sample.npz", x=forms.data.test[:1])
        job = {
            "contenders": [
                {"name": name, "path": str(path), "threads": threads}
                for name, path in files.items()
                for threads in THREADS
            ],
            "sample": str(Path(folder) / "sample.npz"),
            "rounds": rounds,
        }
        times = run_script("race", job, peers_python(PINS), SCRIPTS)["rounds_ns"]
    chosen = fastest(times)
    ratios = {
        f"{precision}, {threads} threads": ratio(
            times[f"{theirs}, {threads}"], times[f"{chosen if ours == OURS_INT8 else ours}, {threads}"]
        )
        for precision, (ours, theirs) in PAIRS.items()
        for threads in THREADS
    }
    return {
        "ours_int8": chosen,
        "theirs_over_ours": ratios,
        "latency_us": {name: interval([value / 1e3 for value in each]) for name, each in times.items()},
    }


def fastest(times: dict[str, list[int]]) -> str:
    """Of our int8 plans, the one with the least median time in one thread, as the compiler chooses."""
    ours = [name.removesuffix(", 1") for name in times if name.startswith(OURS_INT8) and name.endswith(", 1")]
    return min(ours, key=lambda name: statistics.median(times[f"{name}, 1"]))


def models(forms: Forms, folder: Path) -> dict[str, Path]:
    """Files by name; the two of a pair have ports of the same types."""
    contents = {
        "ours float": write(emit(forms.floating, Ports(channels_last=True)).model),
        "reference float": folded(forms.reference_float),
        "reference float, as it came": forms.reference_float,
        **{f"{OURS_INT8} {name}": write(emit(plan, AS_STORED).model) for name, plan in forms.plans.items()},
        "ai-edge-quantizer int8": ai_edge_quantized(forms.reference_float, forms.data.calibration, folder),
    }
    files = {name: folder / f"{index}.tflite" for index, name in enumerate(contents)}
    for name, content in contents.items():
        files[name].write_bytes(content)
    return files


def folded(model: bytes) -> bytes:
    """A float file whose stored weights are float, too.

    The reference for KWS keeps them in int8; LiteRT then rounds activations in each call and multiplies integers, which
    is another net (its answers differ) and a tenth faster.
    """
    read_model = read(model, "the reference")
    tensors = tuple(_in_float(tensor) for tensor in read_model.tensors)
    return write(versioned(replace(read_model, tensors=tensors)))


def _in_float(tensor: Tensor) -> Tensor:
    if tensor.data is None or tensor.type != "INT8" or tensor.quantization is None:
        return tensor
    (scale,), (zero_point,) = tensor.quantization.scales, tensor.quantization.zero_points
    real = (tensor.data.astype(np.float32) - zero_point) * np.float32(scale)
    return replace(tensor, type="FLOAT32", data=real, quantization=None)


def ai_edge_quantized(model: bytes, calibration: NDArray[np.float32], folder: Path) -> bytes:
    """By its recipe for int8, in its own environment; it wants a signature, which the reference files lack."""
    signed = replace(read(model, "the reference"), signature="serving_default")
    (folder / "signed.tflite").write_bytes(write(signed))
    np.savez(folder / "calibration.npz", x=calibration)
    job = {
        "source": str(folder / "signed.tflite"),
        "samples": str(folder / "calibration.npz"),
        "recipe": RECIPE,
        "out": str(folder / "quantized.tflite"),
    }
    run_script("quantize_ai_edge", job, peers_python(PINS), SCRIPTS)
    return (folder / "quantized.tflite").read_bytes()


def ratio(theirs: list[int], ours: list[int]) -> dict[str, float]:
    """Median over the rounds with its interval; over 1 means that ours is faster."""
    return interval([other / mine for other, mine in zip(theirs, ours, strict=True)])


def interval(values: list[float]) -> dict[str, float]:
    """Median and its interval."""
    found = median_interval(values)
    return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}
