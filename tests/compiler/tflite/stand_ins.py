"""Small nets of the kinds of the eight reference models of MLPerf Tiny: float, int8, floats with int8 weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgewright.compiler.tflite.file.model import (
    Array,
    Model,
    Operator,
    OptionValue,
    Port,
    Quantization,
    Tensor,
)
from edgewright.compiler.tflite.file.versions import versioned
from tests.compiler.tflite.tflite_operator import SOFTMAX

SAME, VALID = 0, 1
RELU = 1


@dataclass
class Net:
    """A model while it is written; activations are named by their indices."""

    int8: bool
    hybrid: bool = False
    seed: int = 0
    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

    def tensor(self, shape: tuple[int, ...], quantization: Quantization | None = None) -> int:
        """An activation."""
        kind = "INT8" if self.int8 else "FLOAT32"
        grid = (quantization or self.grid()) if self.int8 else None
        return self._add(Tensor(f"t{len(self.tensors)}", kind, shape, (-1, *shape[1:]), quantization=grid))

    def grid(self) -> Quantization:
        """Some encoding of an activation."""
        random = self._random()
        return Quantization((float(np.float32(random.uniform(0.02, 0.1))),), (int(random.integers(-128, 40)),))

    def input(self, *shape: int) -> int:
        """The input."""
        return self.tensor(shape)

    def layer(
        self,
        kind: str,
        x: int,
        filters: tuple[int, ...],
        axis: int | None,
        shape: tuple[int, ...],
        options: dict[str, OptionValue],
    ) -> int:
        """A convolution or a fully connected layer with weights, bias and a clamp."""
        channels = filters[axis or 0]
        numbers = self._random().normal(size=filters) * 0.3
        w = self._weight(numbers.astype(np.float32), axis)
        bias = self._random().normal(size=channels).astype(np.float32)
        b = self._bias(bias, x, w, channels) if self.int8 else self._constant(bias)
        return self.step(kind, (x, w, b), shape, {"fusedActivationFunction": RELU, **options})

    def step(
        self,
        kind: str,
        inputs: tuple[int, ...],
        shape: tuple[int, ...],
        options: dict[str, OptionValue],
        encoding: Quantization | None = None,
    ) -> int:
        """Any operator."""
        y = self.tensor(shape, encoding)
        self.operators.append(Operator(kind, inputs, (y,), options))
        return y

    def like(self, index: int) -> Quantization | None:
        """The encoding of an activation."""
        return self.tensors[index].quantization

    def row(self, *numbers: int) -> int:
        """A constant shape."""
        return self._add(Tensor(f"t{len(self.tensors)}", "INT32", (len(numbers),), data=np.asarray(numbers, np.int32)))

    def model(self, x: int, y: int) -> Model:
        """The whole."""
        return versioned(
            Model(
                tuple(self.tensors),
                tuple(self.operators),
                (Port("x", x),),
                (Port("y", y),),
                signature="serving_default",
            )
        )

    def _weight(self, numbers: Array, axis: int | None) -> int:
        if not self.int8 and not self.hybrid:
            return self._constant(numbers)
        others = tuple(each for each in range(numbers.ndim) if each != axis)
        scales = np.atleast_1d(np.float32(np.abs(numbers).max(axis=None if axis is None else others) / 127))
        shape = [1] * numbers.ndim
        shape[axis or 0] = scales.size
        integers = np.rint(numbers / scales.reshape(shape)).astype(np.int8)
        grid = Quantization(tuple(float(scale) for scale in scales), (0,) * scales.size, axis or 0)
        name = f"t{len(self.tensors)}"
        return self._add(Tensor(name, "INT8", numbers.shape, data=integers, quantization=grid))

    def _bias(self, numbers: Array, x: int, w: int, channels: int) -> int:
        data, weight = self.tensors[x].quantization, self.tensors[w].quantization
        assert data is not None
        assert weight is not None
        scales = np.float32(data.scales[0]) * np.asarray(weight.scales, np.float32)
        grid = Quantization(tuple(float(scale) for scale in scales), (0,) * scales.size)
        integers = np.rint(numbers / scales).astype(np.int32)
        return self._add(Tensor(f"t{len(self.tensors)}", "INT32", (channels,), data=integers, quantization=grid))

    def _constant(self, array: Array) -> int:
        return self._add(Tensor(f"t{len(self.tensors)}", "FLOAT32", array.shape, data=array))

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _random(self) -> np.random.Generator:
        self.seed += 1
        return np.random.default_rng(self.seed)


def conv_options(stride: int = 1, padding: int = SAME) -> dict[str, OptionValue]:
    """Options of a convolution."""
    return {"strideH": stride, "strideW": stride, "padding": padding}


def head(net: Net, x: int, side: int, channels: int, classes: int) -> int:
    """A pool over the whole picture, a fully connected layer, and probabilities."""
    pool: dict[str, OptionValue] = {
        "filterHeight": side,
        "filterWidth": side,
        "padding": VALID,
        "strideH": side,
        "strideW": side,
    }
    x = net.step("AVERAGE_POOL_2D", (x,), (1, 1, 1, channels), pool, net.like(x))
    x = net.step("RESHAPE", (x, net.row(-1, channels)), (1, channels), {"newShape": (-1, channels)}, net.like(x))
    x = net.layer("FULLY_CONNECTED", x, (classes, channels), None, (1, classes), {})
    return net.step("SOFTMAX", (x,), (1, classes), {"beta": 1.0}, SOFTMAX)


def keywords(net: Net) -> Model:
    """A DS-CNN: depthwise and pointwise convolutions."""
    axis = None if net.hybrid else 0
    start = net.input(1, 12, 12, 1)
    x = net.layer("CONV_2D", start, (8, 5, 4, 1), axis, (1, 6, 6, 8), conv_options(2))
    for _ in range(2):
        hybrid, net.hybrid = net.hybrid, False
        x = net.layer("DEPTHWISE_CONV_2D", x, (1, 3, 3, 8), 3, (1, 6, 6, 8), {"depthMultiplier": 1, **conv_options()})
        net.hybrid = hybrid
        x = net.layer("CONV_2D", x, (8, 1, 1, 8), axis, (1, 6, 6, 8), conv_options())
    net.hybrid = False
    return net.model(start, head(net, x, 6, 8, 5))


def resnet(net: Net) -> Model:
    """Residual blocks with additions, one of them at half the size."""
    start = net.input(1, 8, 8, 3)
    x = net.layer("CONV_2D", start, (4, 3, 3, 3), 0, (1, 8, 8, 4), conv_options())
    y = net.layer("CONV_2D", x, (4, 3, 3, 4), 0, (1, 8, 8, 4), conv_options())
    x = net.step("ADD", (x, y), (1, 8, 8, 4), {"fusedActivationFunction": RELU})
    y = net.layer("CONV_2D", x, (6, 3, 3, 4), 0, (1, 4, 4, 6), conv_options(2))
    x = net.layer("CONV_2D", x, (6, 1, 1, 4), 0, (1, 4, 4, 6), conv_options(2))
    x = net.step("ADD", (x, y), (1, 4, 4, 6), {"fusedActivationFunction": RELU})
    return net.model(start, head(net, x, 4, 6, 5))


def mobilenet(net: Net) -> Model:
    """Pictures of odd sides and strides of two."""
    start = net.input(1, 9, 9, 3)
    x = net.layer("CONV_2D", start, (4, 3, 3, 3), 0, (1, 5, 5, 4), conv_options(2))
    x = net.layer("DEPTHWISE_CONV_2D", x, (1, 3, 3, 4), 3, (1, 3, 3, 4), {"depthMultiplier": 1, **conv_options(2)})
    x = net.layer("CONV_2D", x, (8, 1, 1, 4), 0, (1, 3, 3, 8), conv_options())
    return net.model(start, head(net, x, 3, 8, 2))


def autoencoder(net: Net) -> Model:
    """Fully connected layers."""
    start = net.input(1, 20)
    x, size = start, 20
    for units in (12, 4, 12, 20):
        x, size = net.layer("FULLY_CONNECTED", x, (units, size), None, (1, units), {}), units
    return net.model(start, x)


STAND_INS: dict[str, Callable[[], Model]] = {
    "kws-int8": lambda: keywords(Net(int8=True)),
    "kws-hybrid": lambda: keywords(Net(int8=False, hybrid=True)),
    "resnet-int8": lambda: resnet(Net(int8=True)),
    "resnet-float": lambda: resnet(Net(int8=False)),
    "vww-int8": lambda: mobilenet(Net(int8=True)),
    "vww-float": lambda: mobilenet(Net(int8=False)),
    "ad-int8": lambda: autoencoder(Net(int8=True)),
    "ad-float": lambda: autoencoder(Net(int8=False)),
}
"""By the reference model that each stands for."""
