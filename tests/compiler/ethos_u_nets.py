"""Small .tflite models that Vela takes, or leaves on the CPU for a known reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.compiler.tflite.file.model import Model, Operator, Port, Quantization, Tensor

SAME, VALID = 0, 1
PICTURE = (1, 8, 8, 4)


class Net:
    """Operators one after another; tensors are int8 of one scale unless said otherwise."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        type: str = "INT8",  # noqa: A002 -- the schema's word
        scale: float | Sequence[float] | None = 0.05,
        data: NDArray[Any] | None = None,
        *,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        quantization = None
        if scale is not None:
            scales = tuple(float(np.float32(each)) for each in np.atleast_1d(scale))
            quantization = Quantization(scales, (zero_point,) * len(scales), axis)
        self.tensors.append(Tensor(name, type, tuple(shape), data=data, quantization=quantization))
        return len(self.tensors) - 1

    def integers(self, name: str, numbers: Any) -> int:
        data = np.asarray(numbers, np.int32)
        return self.tensor(name, data.shape, "INT32", None, data)

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        output: int,
        options: Mapping[str, Any] | None = None,
        version: int = 2,
    ) -> int:
        self.operators.append(Operator(kind, tuple(inputs), (output,), options or {}, version))
        return output

    def convolution(
        self, source: int, name: str, channels: int, *, kernel: int = 3, stride: int = 1, padding: int = SAME
    ) -> int:
        batch, rows, columns, before = self.tensors[source].shape
        rng = np.random.default_rng(len(self.tensors))
        weights = rng.integers(-127, 128, (channels, kernel, kernel, before), dtype=np.int8)
        filters = self.tensor(f"{name}/filter", weights.shape, scale=[0.01] * channels, data=weights)
        bias = rng.integers(-500, 500, channels, dtype=np.int32)
        biases = self.tensor(f"{name}/bias", bias.shape, "INT32", [0.0005] * channels, bias)
        shape = (batch, reach(rows, kernel, stride, padding), reach(columns, kernel, stride, padding), channels)
        options = {"padding": padding, "strideH": stride, "strideW": stride, "dilationHFactor": 1, "dilationWFactor": 1}
        output = self.tensor(name, shape, scale=0.3, zero_point=-5)
        return self.add("CONV_2D", [source, filters, biases], output, options, 3)

    def model(self, inputs: Sequence[int], outputs: Sequence[int]) -> Model:
        def ports(indices: Sequence[int]) -> tuple[Port, ...]:
            return tuple(Port(self.tensors[index].name, index) for index in indices)

        return Model(tuple(self.tensors), tuple(self.operators), ports(inputs), ports(outputs))


def reach(size: int, kernel: int, stride: int, padding: int) -> int:
    """Outputs along one axis."""
    return -(-size // stride) if padding == SAME else (size - kernel) // stride + 1


def convolution(stride: int = 1, kernel: int = 3, size: int = 32, padding: int = SAME) -> Model:
    net = Net()
    source = net.tensor("in", (1, size, size + 1, 4), zero_point=3)
    return net.model([source], [net.convolution(source, "out", 8, kernel=kernel, stride=stride, padding=padding)])


def depthwise(stride: int, kernel: int = 3, size: int = 32, padding: int = SAME, multiplier: int = 1) -> Model:
    net = Net()
    source = net.tensor("in", (1, size, size + 1, 4), zero_point=3)
    channels = 4 * multiplier
    rng = np.random.default_rng(7)
    weights = rng.integers(-127, 128, (1, kernel, kernel, channels), dtype=np.int8)
    filters = net.tensor("filter", weights.shape, scale=[0.01] * channels, data=weights, axis=3)
    bias = rng.integers(-500, 500, channels, dtype=np.int32)
    biases = net.tensor("bias", bias.shape, "INT32", [0.0005] * channels, bias)
    rows, columns = (reach(edge, kernel, stride, padding) for edge in (size, size + 1))
    output = net.tensor("out", (1, rows, columns, channels), scale=0.3, zero_point=-5)
    options = {"padding": padding, "strideH": stride, "strideW": stride, "depthMultiplier": multiplier}
    options |= {"dilationHFactor": 1, "dilationWFactor": 1}
    return net.model([source], [net.add("DEPTHWISE_CONV_2D", [source, filters, biases], output, options, 3)])


def pool(kind: str, stride: int, kernel: int, size: int = 30, padding: int = SAME) -> Model:
    net = Net()
    source = net.tensor("in", (1, size, size, 4))
    edge = reach(size, kernel, stride, padding)
    output = net.tensor("out", (1, edge, edge, 4))
    sizes = {"strideH": stride, "strideW": stride, "filterHeight": kernel, "filterWidth": kernel}
    return net.model([source], [net.add(kind, [source], output, {"padding": padding, **sizes})])


def gather(indices: Any, axis: int = 3, shape: Sequence[int] = PICTURE) -> Model:
    """Between two convolutions, where the axis is that of the channels of a picture."""
    net = Net()
    source = net.tensor("in", shape)
    place = axis % len(shape)
    taken = (*shape[:place], *np.shape(indices), *shape[place + 1 :])
    output = net.add("GATHER", [source, net.integers("indices", indices)], net.tensor("out", taken), {"axis": axis})
    return net.model([source], [output])


def mean(axes: Sequence[int], shape: Sequence[int] = PICTURE, *, keep: bool = True) -> Model:
    net = Net()
    source = net.tensor("in", shape, zero_point=4)
    gone = {axis % len(shape) for axis in axes}
    left = [1 if at in gone else size for at, size in enumerate(shape) if keep or at not in gone]
    output = net.tensor("out", left, scale=0.03, zero_point=-7)
    return net.model([source], [net.add("MEAN", [source, net.integers("axes", axes)], output, {"keepDims": keep})])


def nearest(rows: int, columns: int, shape: Sequence[int] = PICTURE, **options: bool) -> Model:
    net = Net()
    source = net.tensor("in", shape)
    output = net.tensor("out", (shape[0], rows, columns, shape[3]))
    inputs = [source, net.integers("size", [rows, columns])]
    return net.model([source], [net.add("RESIZE_NEAREST_NEIGHBOR", inputs, output, options, 3)])


def blocks(kind: str, block: int = 2) -> Model:
    net = Net()
    edge, channels = 2 * block, 3 * block**2
    narrow, wide = (2, edge, edge, 3), (2, 2, 2, channels)
    source = net.tensor("in", narrow if kind == "SPACE_TO_DEPTH" else wide)
    output = net.tensor("out", wide if kind == "SPACE_TO_DEPTH" else narrow)
    return net.model([source], [net.add(kind, [source], output, {"blockSize": block}, 1)])


def float_ports() -> Model:
    """FLOAT32 in and out around an int8 convolution."""
    net = Net()
    source = net.tensor("in", PICTURE, "FLOAT32", None)
    inside = net.add("QUANTIZE", [source], net.tensor("quantized", PICTURE))
    features = net.convolution(inside, "features", 8)
    output = net.tensor("out", net.tensors[features].shape, "FLOAT32", None)
    return net.model([source], [net.add("DEQUANTIZE", [features], output)])


def two_on_cpu(name: str = "out") -> Model:
    """A wide stride that can be rewritten, and an operator that cannot."""
    net = Net()
    source = net.tensor("in", (1, 32, 32, 4), zero_point=3)
    features = net.convolution(source, "features", 8, stride=5)
    shape = net.tensors[features].shape
    normalized = net.add("L2_NORMALIZATION", [features], net.tensor("normal", shape, scale=1 / 128))
    return net.model([source], [net.convolution(normalized, name, 8)])


def padded_convolution(stride: int = 4) -> Model:
    """What an emitter makes of a framework's padding: PAD, then a convolution without."""
    net = Net()
    source = net.tensor("in", (1, 30, 30, 3), zero_point=3)
    padded = net.tensor("padded", (1, 34, 34, 3), zero_point=3)
    net.add("PAD", [source, net.integers("paddings", [[0, 0], [2, 2], [2, 2], [0, 0]])], padded)
    return net.model([source], [net.convolution(padded, "out", 8, kernel=5, stride=stride, padding=VALID)])


def _grouped() -> Model:
    net = Net()
    source = net.tensor("in", (1, 8, 8, 8))
    output = net.convolution(source, "out", 8)
    filters = net.operators[-1].inputs[1]
    halved = net.tensors[filters].data
    assert halved is not None
    net.tensors[filters] = replace(net.tensors[filters], shape=(8, 3, 3, 4), data=halved[..., :4].copy())
    return net.model([source], [output])


def _transpose() -> Model:
    net = Net()
    source = net.tensor("in", (1, 4, 8, 8))
    output = net.tensor("out", (1, 8, 8, 4))
    return net.model([source], [net.add("TRANSPOSE", [source, net.integers("order", [0, 2, 3, 1])], output)])


def _prelu() -> Model:
    net = Net()
    source = net.tensor("in", PICTURE)
    slopes = net.tensor("slopes", (1, 1, 4), scale=0.01, data=np.array([[[25, -3, 9, 100]]], np.int8))
    return net.model([source], [net.add("PRELU", [source, slopes], net.tensor("out", PICTURE), version=1)])


def _leaky_relu() -> Model:
    net = Net()
    source = net.tensor("in", PICTURE)
    output = net.tensor("out", PICTURE)
    return net.model([source], [net.add("LEAKY_RELU", [source], output, {"alpha": 0.2})])


def _softmax() -> Model:
    net = Net()
    source = net.tensor("in", (4, 8, 8, 10))
    output = net.tensor("out", (4, 8, 8, 10), scale=1 / 256, zero_point=-128)
    return net.model([source], [net.add("SOFTMAX", [source], output, {"beta": 1.0})])


def _batch() -> Model:
    net = Net()
    source = net.tensor("in", (4, 16))
    weights = net.tensor("weights", (8, 16), scale=0.01, data=np.ones((8, 16), np.int8))
    biases = net.tensor("biases", (8,), "INT32", 0.0005, np.zeros(8, np.int32))
    output = net.tensor("out", (4, 8))
    return net.model([source], [net.add("FULLY_CONNECTED", [source, weights, biases], output, version=4)])


ON_THE_NPU = {
    "grouped convolution": _grouped(),
    "transpose": _transpose(),
    "parametric ReLU": _prelu(),
    "leaky ReLU": _leaky_relu(),
    "softmax of pictures": _softmax(),
    "batch of a fully connected layer": _batch(),
    "mean of a large picture": mean([1, 2], (1, 300, 300, 4)),
    "pool with wide strides": pool("MAX_POOL_2D", 4, 4, 32, VALID),
}
"""What once had to be rewritten, and what Vela 5.2 takes as it is."""
