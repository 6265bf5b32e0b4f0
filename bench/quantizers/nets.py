"""The nets of the bench, and what each is calibrated and scored on; the same for everyone."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from . import mobilenet
from .environment import CACHE, digest, peers_python, run_script

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
CALIBRATION_SAMPLES = 256
TUNE_SAMPLES = 244
OPSET = 13
"""The least in which a weight has a scale per channel; older nets are converted once, for everyone."""

KWS_SCALE, KWS_ZERO_POINT = 0.5847029, 83

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """What everybody calibrates on, and is scored on; inputs as the net takes them."""

    calibration: Floats
    tune: Floats
    """For accuracy control: seen by whoever repairs, unlike `test`."""
    test: Floats
    labels: NDArray[np.int64] | None
    """Of `test`."""


@dataclass(frozen=True)
class Net:
    """A net by its place under ../shared/data, or made here."""

    name: str
    file: str
    data: Callable[[], Data]
    emulated_samples: int
    """So many of the test samples run on the emulated CPU."""

    @property
    def is_present(self) -> bool:
        """Whether its files are here."""
        return SHARED.exists() and (self.file == "" or (SHARED / self.file).exists())


def model_file(net: Net) -> Path:
    """The float net, at an opset that every quantizer takes."""
    source = (SHARED / net.file).read_bytes() if net.file else Path(mobilenet.__file__).read_bytes()
    path = CACHE / f"{net.name}-{digest(source)}.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    if net.file:
        unfinished.write_bytes(_converted(source))
    else:
        mobilenet.export(unfinished)
    unfinished.replace(path)
    return path


def input_name(model: onnx.ModelProto) -> str:
    """The one input that is not a weight."""
    stored = {initializer.name for initializer in model.graph.initializer}
    return str(next(value.name for value in model.graph.input if value.name not in stored))


def _converted(source: bytes) -> bytes:
    model = onnx.load_from_string(source)
    if model.opset_import[0].version >= OPSET:
        return source
    model = onnx.version_converter.convert_version(model, OPSET)
    model.ir_version = max(model.ir_version, 7)
    weights = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]  # a weight that is also an input cannot be folded, nor quantized
    model.graph.input.extend(inputs)
    content: bytes = model.SerializeToString()
    return content


def _kws() -> Data:
    with np.load(SHARED / "mlperf_tiny/kws01.npz", allow_pickle=False) as file:
        raw, y = file["x"].astype(np.float32), file["y"].astype(np.int64)
    x = ((raw - KWS_ZERO_POINT) * KWS_SCALE).astype(np.float32)
    even, odd = slice(0, None, 2), slice(1, None, 2)
    return Data(*_halves(x[even]), x[odd], y[odd])


def _mnist() -> Data:
    images = gzip.decompress((SHARED / "mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((SHARED / "mnist/t10k-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(images[16:], dtype=np.uint8).reshape(-1, 1, 28, 28).astype(np.float32)
    y = np.frombuffer(labels[8:], dtype=np.uint8).astype(np.int64)
    seen = CALIBRATION_SAMPLES + TUNE_SAMPLES
    return Data(*_halves(x[:seen]), x[seen:], y[seen:])


def _ic() -> Data:
    images, labels = _cifar("test", 10_000, 32)
    seen, _ = _cifar("train", CALIBRATION_SAMPLES + TUNE_SAMPLES, 32)
    return Data(*_halves(seen.astype(np.float32)), images.astype(np.float32), labels)


def _vww() -> Data:
    def inputs(part: str, count: int) -> Floats:
        return (_cifar(part, count, 96)[0] / 255).astype(np.float32)

    return Data(*_halves(inputs("train", CALIBRATION_SAMPLES + TUNE_SAMPLES)), inputs("test", 500), None)


def _ad() -> Data:
    x = np.random.default_rng(0).random(size=(CALIBRATION_SAMPLES + TUNE_SAMPLES + 500, 640)).astype(np.float32)
    seen = CALIBRATION_SAMPLES + TUNE_SAMPLES
    return Data(*_halves(x[:seen]), x[seen:], None)


def _mobilenet() -> Data:
    def inputs(part: str, count: int, seed: int) -> Floats:
        images = _cifar(part, count, mobilenet.SIZE)[0].astype(np.float32).transpose(0, 3, 1, 2)
        noise = np.random.default_rng(seed).normal(0, 0.1, images.shape)
        return (images / 127.5 - 1 + noise).astype(np.float32)

    return Data(*_halves(inputs("train", CALIBRATION_SAMPLES + 64, 0)), inputs("test", 100, 1), None)


def _halves(seen: Floats) -> tuple[Floats, Floats]:
    """What calibrates and what tunes."""
    return seen[:CALIBRATION_SAMPLES], seen[CALIBRATION_SAMPLES:]


def _cifar(part: str, count: int, size: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Pictures (count, size, size, 3) and labels, drawn once and for all."""
    path = CACHE / f"cifar-{part}-{count}-{size}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part.npz")
        job = {"source": str(SHARED / f"cifar10_jpg/cifar10_{part}_jpg.npz"), "count": count, "size": size}
        run_script("decode_images", {**job, "out": str(unfinished)}, peers_python())
        unfinished.replace(path)
    with np.load(path, allow_pickle=False) as file:
        return file["x"], file["y"]


NETS = (
    Net("kws", "mlperf_tiny/onnx/kws_f32.onnx", _kws, emulated_samples=500),
    Net("mnist", "mnist/mnist.onnx", _mnist, emulated_samples=1000),
    Net("ic", "mlperf_tiny/onnx/ic_resnet8_f32.onnx", _ic, emulated_samples=500),
    Net("vww", "mlperf_tiny/onnx/vww_f32.onnx", _vww, emulated_samples=200),
    Net("ad", "mlperf_tiny/onnx/ad_f32.onnx", _ad, emulated_samples=500),
    Net("mobilenet-v2", "", _mobilenet, emulated_samples=8),
)
