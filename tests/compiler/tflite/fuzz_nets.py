"""Random nets as vision, detection, sequence and attention models are made: layers of `random_nets.py` and these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgewright.compiler.tflite.file.model import Array
from tests.compiler.nets import Net
from tests.compiler.random_nets import LAYERS, MAX_ELEMENTS, Layer, convolution, dense

SHAPES = ((4, 24), (3, 17), (3, 9, 8), (4, 8, 8), (8, 12, 7), (16, 5, 6), (1, 13, 11))
DENSE = ("MatMul", "Gemm", "Gemm, transposed")


@dataclass(frozen=True, eq=False)
class FuzzNet:
    """A net and what it is called with."""

    model: onnx.ModelProto
    samples: dict[str, Array]
    """Several, for calibration; the first axis counts them."""
    batch: int
    """How many samples a call takes."""
    layers: tuple[str, ...]


def net_of(seed: int) -> FuzzNet:
    """What a seed stands for."""
    random = np.random.default_rng(seed)
    net = Net(SHAPES[random.integers(len(SHAPES))], random)
    layers: list[str] = []
    if random.random() < 0.8:
        convolution(net)
        layers.append("convolution")
    for _ in range(random.integers(2, 8)):
        layer = ALL[random.integers(len(ALL))]
        layer(net)
        layers.append(layer.__name__)
    outputs = _end(net, layers)
    batch = int(random.choice([1, 1, 2, 3]))
    free = bool(random.random() < 0.5)
    samples = {
        name: random.normal(size=(12, *shape)).astype(np.float32)
        for name, shape in {"x": net.input_shape, **net.more_inputs}.items()
    }
    return FuzzNet(net.model(*outputs, batch="N" if free else batch), samples, batch, tuple(layers))


def _end(net: Net, layers: list[str]) -> tuple[str, ...]:
    """How a net ends, and its outputs: the last result, and sometimes an earlier one."""
    choice = net.random.random()
    if not net.shapes:
        convolution(net)
    if choice < 0.25:
        dense(net, str(net.random.choice(DENSE)))
        layers.append("dense")
        if net.random.random() < 0.5:
            net.node("Softmax", net.here, axis=-1)
    elif choice < 0.5 and len(net.shape) == 3:
        detector_head(net)
        layers.append("detector_head")
    others = sorted({*net.shapes} - {net.here})
    return (str(net.random.choice(others)), net.here) if others and net.random.random() < 0.3 else (net.here,)


def _vector(net: Net, *values: int) -> str:
    return net.constant(np.array(values, np.int64))


def windowed_convolution(net: Net) -> None:
    """Strides, kernels, groups and paddings of any kind, the same at both ends or not."""
    given, *size = net.shape
    axes, random = len(size), net.random
    kernel = [int(random.integers(1, min(5, side) + 1)) for side in size]
    stride = [int(random.integers(1, 4)) for _ in size]
    pads = [int(random.integers(0, side)) for side in (*kernel, *kernel)]
    groups = int(random.choice([1, 1, given, 2 if given % 2 == 0 else 1]))
    channels = groups * int(random.integers(1, 4))
    weight = net.weight(channels, given // groups, *kernel)
    bias = [net.weight(channels)] if random.random() < 0.7 else []
    sides = [(n + pads[i] + pads[i + axes] - kernel[i]) // stride[i] + 1 for i, n in enumerate(size)]
    if min(sides) < 1 or channels * np.prod(sides) > MAX_ELEMENTS:
        return
    net.shape = (channels, *sides)
    net.node("Conv", net.here, weight, *bias, kernel_shape=kernel, strides=stride, pads=pads, group=groups)
    if random.random() < 0.5:
        net.node("Relu", net.here)


def same_convolution(net: Net) -> None:
    given, *size = net.shape
    stride = int(net.random.integers(1, 3))
    net.shape = (6, *(-(-side // stride) for side in size))
    weight = net.weight(6, given, *[3] * len(size))
    pad = str(net.random.choice(["SAME_UPPER", "SAME_LOWER"]))
    net.node("Conv", net.here, weight, net.weight(6), strides=[stride] * len(size), auto_pad=pad)
    net.node("Clip", net.here, net.constant(np.float32(0)), net.constant(np.float32(6)))


def strided_transposed_convolution(net: Net) -> None:
    given, *size = net.shape
    kernel, stride = int(net.random.integers(2, 5)), int(net.random.integers(1, 3))
    pad = int(net.random.integers(0, min(kernel - 1, 1) + 1))
    sides = [(side - 1) * stride + kernel - 2 * pad for side in size]
    if 3 * np.prod(sides) > MAX_ELEMENTS or min(sides) < 1:
        return
    net.shape = (3, *sides)
    axes = len(size)
    weight = net.weight(given, 3, *[kernel] * axes)
    net.node("ConvTranspose", net.here, weight, net.weight(3), strides=[stride] * axes, pads=[pad] * 2 * axes)


def padded(net: Net) -> None:
    axes = len(net.shape)
    mode = str(net.random.choice(["constant", "constant", "reflect", "edge"]))
    pads = [0 if axis == 0 and mode != "constant" else int(net.random.integers(0, min(2, side - 1) + 1))
            for axis, side in [*enumerate(net.shape)] * 2]  # fmt: skip
    shape = tuple(side + pads[i] + pads[i + axes] for i, side in enumerate(net.shape))
    if np.prod(shape) > MAX_ELEMENTS:
        return
    number = net.constant(np.float32(net.random.choice([0, 0, 0.5]))) if mode == "constant" else ""
    net.shape = shape
    net.node("Pad", net.here, _vector(net, 0, *pads[:axes], 0, *pads[axes:]), *([number] if number else []), mode=mode)


def windowed_pool(net: Net) -> None:
    _, *size = net.shape
    axes = len(size)
    kernel = [int(net.random.integers(1, min(4, side) + 1)) for side in size]
    stride = [int(net.random.integers(1, 3)) for _ in size]
    pads = [int(net.random.integers(0, (side + 1) // 2)) for side in (*kernel, *kernel)]
    kind = str(net.random.choice(["MaxPool", "AveragePool"]))
    more = {"count_include_pad": int(net.random.integers(2))} if kind == "AveragePool" else {}
    sides = [(n + pads[i] + pads[i + axes] - kernel[i]) // stride[i] + 1 for i, n in enumerate(size)]
    net.shape = (net.shape[0], *sides)
    net.node(kind, net.here, kernel_shape=kernel, strides=stride, pads=pads, **more)


def squeeze_and_excitation(net: Net) -> None:
    before, shape = net.here, net.shape
    ones = [1] * (len(shape) - 1)
    net.shape = (shape[0], *ones)
    if net.random.random() < 0.5:
        net.node("GlobalAveragePool", before)
    else:
        net.node("ReduceMean", before, axes=list(range(2, len(shape) + 1)), keepdims=1)
    net.shape = (4, *ones)
    net.node("Conv", net.here, net.weight(4, shape[0], *ones), net.weight(4))
    net.node("Relu", net.here)
    net.shape = (shape[0], *ones)
    net.node("Conv", net.here, net.weight(shape[0], 4, *ones), net.weight(shape[0]))
    gate = net.node(str(net.random.choice(["Sigmoid", "HardSigmoid"])), net.here)
    net.shape = shape
    net.node("Mul", *((before, gate) if net.random.random() < 0.5 else (gate, before)))


def branches(net: Net) -> None:
    """As Inception's: two or three ways, joined."""
    before, (given, *size) = net.here, net.shape
    ways = []
    for _ in range(net.random.integers(2, 4)):
        net.shape = (given, *size)
        kind = int(net.random.integers(4))
        net.here = before
        if kind == 0:
            net.node("MaxPool", before, kernel_shape=[3] * len(size), pads=[1] * 2 * len(size))
        elif kind == 1:
            net.node("Sigmoid", before)
        else:
            kernel = 1 if kind == 2 else 3
            net.shape = (3, *size)
            weight = net.weight(3, given, *[kernel] * len(size))
            net.node("Conv", before, weight, net.weight(3), pads=[kernel // 2] * 2 * len(size))
            net.node(str(net.random.choice(["Relu", "Tanh"])), net.here)
        ways.append((net.here, net.shape[0]))
    channels = sum(count for _, count in ways)
    net.shape = (channels, *size)
    net.node("Concat", *(name for name, _ in ways), axis=1)


def strided_slice(net: Net) -> None:
    axis = int(net.random.integers(len(net.shape)))
    side = net.shape[axis]
    if side < 3:
        return
    start, step = int(net.random.integers(0, 2)), int(net.random.integers(1, 3))
    size = -(-(side - start) // step)
    net.shape = tuple(size if each == axis else n for each, n in enumerate(net.shape))
    given = (_vector(net, start), _vector(net, 2**31), _vector(net, axis + 1), _vector(net, step))
    net.node("Slice", net.here, *given)


def space_split(net: Net) -> None:
    """In two along any axis, one part through an activation, then joined the other way round."""
    axis = int(net.random.integers(len(net.shape)))
    side = net.shape[axis]
    if side < 2:
        return
    cut, before = int(net.random.integers(1, side)), net.shape
    sizes = _vector(net, cut, side - cut)
    parts = [tuple(n if each == axis else old for each, old in enumerate(before)) for n in (cut, side - cut)]
    net.shape = parts[0]
    first = net.node("Split", net.here, sizes, axis=axis + 1)
    second = f"{first}_second"
    net.nodes[-1].output.append(second)
    net.shape = parts[1]
    net.node("Relu", second)
    other = net.here
    net.shape = before
    net.node("Concat", other, first, axis=axis + 1)


def _factor(new: int, old: int) -> np.float32:
    """A little more than the quotient: what rounds in float32 and what rounds in float64 then count alike."""
    return np.float32(new / old) if new % old == 0 else np.float32(new / old * (1 + 1e-6))


def resized_any_way(net: Net) -> None:
    given, *size = net.shape
    if len(size) != 2:
        return
    mode = str(net.random.choice(["nearest", "linear"]))
    ways = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
    way = str(net.random.choice(ways[:3] if mode == "nearest" else ways))
    factor = int(net.random.integers(2, 4))
    whole = mode == "nearest"  # places of other factors are rounded from numbers that engines do not agree on
    sides = [side * factor if whole or net.random.random() < 0.5 else int(net.random.integers(2, 12)) for side in size]
    if given * np.prod(sides) > MAX_ELEMENTS:
        return
    factors = np.array([1, 1, *(_factor(*each) for each in zip(sides, size, strict=True))], np.float32)
    net.shape = (given, *sides)
    more = {"nearest_mode": "floor" if way == "asymmetric" else "round_prefer_ceil"} if mode == "nearest" else {}
    net.node("Resize", net.here, "", net.constant(factors), mode=mode, coordinate_transformation_mode=way, **more)


def depth_to_space(net: Net) -> None:
    given, *size = net.shape
    if len(size) != 2 or given % 4:
        return
    net.shape = (given // 4, *(2 * side for side in size))
    net.node("DepthToSpace", net.here, blocksize=2, mode=str(net.random.choice(["DCR", "CRD"])))


def attention(net: Net) -> None:
    """One head over places, with a residual."""
    channels, *size = net.shape
    places = int(np.prod(size))
    if places > 64 or channels < 2:
        return
    before, shape, width = net.here, net.shape, 4
    net.shape = (channels, places)
    if len(size) > 1:
        net.node("Reshape", before, _vector(net, 0, channels, -1))
    net.shape = (places, channels)
    tokens = net.node("Transpose", net.here, perm=[0, 2, 1])
    made = []
    for wanted in (width, width, channels):
        net.shape = (places, wanted)
        net.node("MatMul", tokens, net.weight(channels, wanted, scale=float(np.sqrt(wanted / channels))))
        made.append(net.node("Add", net.here, net.weight(wanted)))
    net.shape = (width, places)
    keys = net.node("Transpose", made[1], perm=[0, 2, 1])
    net.shape = (places, places)
    net.node("MatMul", made[0], keys)
    net.node("Mul", net.here, net.constant(np.float32(0.5)))
    weights = net.node("Softmax", net.here, axis=-1)
    net.shape = (places, channels)
    net.node("MatMul", weights, made[2])
    net.node("Add", net.here, tokens)
    net.shape = (channels, places)
    net.node("Transpose", net.here, perm=[0, 2, 1])
    net.shape = shape
    if len(size) > 1:
        net.node("Reshape", net.here, _vector(net, 0, channels, *size[:1], -1))


def turned(net: Net) -> None:
    """Axes in another order, for good."""
    order = [int(axis) for axis in net.random.permutation(len(net.shape))]
    net.shape = tuple(net.shape[axis] for axis in order)
    net.node("Transpose", net.here, perm=[0, *(axis + 1 for axis in order)])


def reduced(net: Net) -> None:
    """What is held against its mean or extreme along an axis."""
    before, shape = net.here, net.shape
    axis = int(net.random.integers(len(shape)))
    net.shape = tuple(1 if each == axis else n for each, n in enumerate(shape))
    kind = str(net.random.choice(["ReduceMean", "ReduceMax", "ReduceMin"]))
    net.node(kind, before, axes=[axis + 1], keepdims=1)
    middle = net.here
    net.shape = shape
    net.node(str(net.random.choice(["Add", "Sub", "Mul"])), before, middle)


def softmax(net: Net) -> None:
    net.node("Softmax", net.here, axis=int(net.random.choice([1, -1])))


def single_element_function(net: Net) -> None:
    kind = str(net.random.choice(["Abs", "Neg", "Exp", "Pow", "Div", "Sub", "Min", "Max", "Clip", "Sqrt"]))
    number = net.constant(np.float32(net.random.choice([-0.5, 0.3, 2.0, 1.0])))
    if kind == "Pow":
        net.node(kind, net.here, net.constant(np.float32(2)))
    elif kind == "Clip":
        low, high = sorted(net.random.normal(size=2).astype(np.float32))
        net.node(kind, net.here, net.constant(low), net.constant(high))
    elif kind == "Exp":
        net.node("Clip", net.here, net.constant(np.float32(-4)), net.constant(np.float32(2)))
        net.node(kind, net.here)
    elif kind == "Sqrt":
        net.node("Relu", net.here)
        net.node(kind, net.here)
    else:
        net.node(kind, net.here, *([] if kind in {"Abs", "Neg"} else [number]))


def two_ways(net: Net) -> None:
    """Two activations of one value, held against each other."""
    before = net.here
    first = net.node(str(net.random.choice(["Sigmoid", "Relu", "Tanh"])), before)
    second = net.node(str(net.random.choice(["LeakyRelu", "HardSwish", "Neg"])), before)
    net.node(str(net.random.choice(["Add", "Sub", "Mul", "Max", "Min"])), first, second)


def detector_head(net: Net) -> None:
    """Lists of scores and of boxes, decoded and joined."""
    _, height, width = net.shape
    before, shape, lists = net.here, net.shape, []
    for each in range(2):
        net.here, net.shape = before, shape
        net.shape = (6, height, width)
        net.node("Conv", before, net.weight(6, shape[0], 1, 1), net.weight(6))
        net.shape = (height, width, 6)
        net.node("Transpose", net.here, perm=[0, 2, 3, 1])
        net.shape = (height * width * 2, 3)
        net.node("Reshape", net.here, _vector(net, 0, -1, 3))
        net.node("Sigmoid" if each else "Tanh", net.here)
        if net.random.random() < 0.5:
            net.node("Mul", net.here, net.constant(np.array([1, 2, 0.5], np.float32)))
        lists.append(net.here)
    axis = int(net.random.integers(1, 3))
    net.shape = (height * width * 4, 3) if axis == 1 else (height * width * 2, 6)
    net.node("Concat", *lists, axis=axis)


OWN: tuple[Layer, ...] = (
    windowed_convolution, windowed_convolution, windowed_convolution, same_convolution,
    strided_transposed_convolution, padded, windowed_pool, windowed_pool, squeeze_and_excitation, branches, branches,
    strided_slice, space_split, resized_any_way, resized_any_way, depth_to_space, attention, attention, turned, reduced,
    softmax, single_element_function, single_element_function, two_ways,
)  # fmt: skip
ALL: tuple[Layer, ...] = (*LAYERS, *OWN)
