"""Nets of random layers in random order: what exporters write, in combinations that nobody thought of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from tests.compiler.nets import Net

Layer = Callable[[Net], None]
MAX_ELEMENTS = 4096
"""Of a result, per sample; layers that make it larger stop there."""


def convolution(net: Net) -> None:
    """Of as many axes as the net has, sometimes in groups or with holes."""
    given, *size = net.shape
    axes = len(size)
    groups = int(net.random.choice([1, 1, given]))
    dilation = int(net.random.integers(1, 3))
    channels = given * int(net.random.integers(1, 3)) if groups > 1 else int(net.random.integers(2, 9))
    weight = net.weight(channels, given // groups, *[3] * axes)
    net.shape = (channels, *size)
    sides = [dilation] * 2 * axes
    net.node("Conv", net.here, weight, pads=sides, dilations=[dilation] * axes, group=groups)


def transposed_convolution(net: Net) -> None:
    given, *size = net.shape
    if np.prod(net.shape) * 2 ** len(size) > MAX_ELEMENTS:
        return
    weight = net.weight(given, 4, *[2] * len(size))
    net.shape = (4, *(2 * side for side in size))
    net.node("ConvTranspose", net.here, weight, strides=[2] * len(size))


def shared_convolutions(net: Net) -> None:
    """Two nodes with one weight and one bias."""
    channels, *size = net.shape
    weight, bias = net.weight(channels, channels, *[1] * len(size)), net.weight(channels)
    net.node("Conv", net.here, weight, bias)
    net.node("Relu", net.here)
    net.node("Conv", net.here, weight, bias)


def activation(net: Net) -> None:
    kind = net.random.choice(["Relu", "HardSwish", "HardSigmoid", "Sigmoid", "LeakyRelu", "Clip", "Tanh", "Elu"])
    bounds = [net.constant(np.float32(0)), net.constant(np.float32(6))] if kind == "Clip" else []
    net.node(str(kind), net.here, *bounds)


def parametric_relu(net: Net) -> None:
    net.node("PRelu", net.here, net.weight(net.shape[0], *[1] * (len(net.shape) - 1)))


def swish(net: Net) -> None:
    before = net.here
    net.node("Mul", before, net.node("Sigmoid", before))


def constant_addition(net: Net) -> None:
    shape = (net.shape[0], *[1] * (len(net.shape) - 1))
    values = [net.here, net.constant(net.random.normal(size=shape).astype(np.float32))]
    net.node("Add", *(values if net.random.random() < 0.5 else values[::-1]))


def constant_multiplication(net: Net) -> None:
    net.node("Mul", net.here, net.constant(np.float32(net.random.uniform(0.5, 2))))


def residual(net: Net) -> None:
    before = net.here
    convolution(net)
    if net.shape == net.shapes.get(before, net.input_shape):
        net.node("Add", net.here, before)


def second_input(net: Net) -> None:
    name = f"z{len(net.more_inputs)}"
    net.more_inputs[name] = net.shape
    net.node("Add", net.here, name)


def concatenation(net: Net) -> None:
    if np.prod(net.shape) * 2 > MAX_ELEMENTS:
        return
    before = net.here
    after = net.node("Relu", before)
    net.shape = (2 * net.shape[0], *net.shape[1:])
    net.node("Concat", after, before, axis=1)


def split(net: Net) -> None:
    """In two halves, of which the first goes on and the second is added."""
    half = net.shape[0] // 2
    if half == 0:
        return
    sizes = net.constant(np.array([half, net.shape[0] - 2 * half, half], dtype=np.int64))
    before, net.shape = net.here, (half, *net.shape[1:])
    net.node("Split", before, sizes, axis=1)
    node = net.nodes[-1]
    node.output.extend([f"{node.name}_middle", f"{node.name}_last"])
    net.node("Add", node.output[0], node.output[2])


def sliced(net: Net) -> None:
    if net.shape[0] < 2:
        return
    values = [np.array([value], dtype=np.int64) for value in (1, net.shape[0], 1)]
    start, stop, axis = (net.constant(value) for value in values)
    net.shape = (net.shape[0] - 1, *net.shape[1:])
    net.node("Slice", net.here, start, stop, axis)


def gathered(net: Net) -> None:
    order = net.random.permutation(net.shape[0]).astype(np.int64)
    net.node("Gather", net.here, net.constant(order), axis=1)


def resized(net: Net) -> None:
    if np.prod(net.shape) * 2 ** (len(net.shape) - 1) > MAX_ELEMENTS:
        return
    scales = net.constant(np.array([1, 1, *[2] * (len(net.shape) - 1)], dtype=np.float32))
    net.shape = (net.shape[0], *(2 * side for side in net.shape[1:]))
    net.node("Resize", net.here, "", scales, mode="nearest")


def normalised(net: Net) -> None:
    net.node("LayerNormalization", net.here, net.weight(net.shape[-1]), net.weight(net.shape[-1]), axis=-1)


def pooled(net: Net) -> None:
    axes = len(net.shape) - 1
    if min(net.shape[1:]) < 2:
        return
    net.shape = (net.shape[0], *(side // 2 for side in net.shape[1:]))
    kind = str(net.random.choice(["MaxPool", "AveragePool"]))
    net.node(kind, net.here, kernel_shape=[2] * axes, strides=[2] * axes)


LAYERS: tuple[Layer, ...] = (
    convolution,
    convolution,
    transposed_convolution,
    shared_convolutions,
    activation,
    activation,
    parametric_relu,
    swish,
    constant_addition,
    constant_multiplication,
    residual,
    second_input,
    concatenation,
    split,
    sliced,
    gathered,
    resized,
    normalised,
    pooled,
)


def dense(net: Net, form: str) -> None:
    """A flat end, as one of the ways to write it."""
    net.flatten()
    width = net.shape[0]
    if form == "MatMul":
        weight, bias = net.constant(_matrix(net, width)), net.weight(5)
        net.shape = (5,)
        net.node("MatMul", net.here, weight)
        net.node("Add", net.here, bias)
        return
    transposed = form == "Gemm, transposed"
    weight = net.weight(5, width) if transposed else net.constant(_matrix(net, width))
    net.shape = (5,)
    net.node("Gemm", net.here, weight, net.weight(5), transB=int(transposed))


def _matrix(net: Net, width: int) -> np.ndarray:
    matrix: np.ndarray = (net.random.normal(size=(width, 5)) / np.sqrt(width)).astype(np.float32)
    return matrix


@st.composite
def nets_and_outputs(draw: st.DrawFn) -> tuple[Net, tuple[str, ...]]:
    """A net of one, two or three axes, and names of one to three results that are its outputs."""
    shape = draw(st.sampled_from([(4, 24), (3, 9, 8), (4, 8, 8), (2, 4, 5, 4)]))
    net = Net(shape, np.random.default_rng(draw(st.integers(0, 2**16))))
    convolution(net)
    for layer in draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=6)):
        layer(net)
    end = draw(st.sampled_from(["", "MatMul", "Gemm", "Gemm, transposed"]))
    if end:
        dense(net, end)
    others = (
        draw(st.lists(st.sampled_from(sorted({*net.shapes} - {net.here})), max_size=2, unique=True))
        if len(net.shapes) > 1
        else []
    )
    return net, (*others, net.here)
