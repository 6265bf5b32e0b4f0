"""Small random QDQ nets whose weights lie at the ends of their range: where 16-bit sums would saturate, theirs do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 7
ACTIVATIONS = {"u8": np.uint8, "s8": np.int8}


class NetBuilder:
    """Adds QDQ groups one after the other; everything random comes from one generator."""

    def __init__(self, seed: int, activations: str, weights: str, *, per_channel: bool) -> None:
        self.random = np.random.default_rng(seed)
        self.activations = activations
        self.weights = weights
        self.per_channel = per_channel
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], f"n{len(self.nodes)}", **attributes))
        return name

    def rounded(self, name: str, scale: float, *, positive: bool = False) -> str:
        dtype = ACTIVATIONS[self.activations]
        lowest = 0 if dtype == np.uint8 else -128
        zero = lowest if positive else lowest + int(self.random.integers(100, 156))
        parts = [self.constant(np.float32(scale)), self.constant(dtype(zero))]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [name, *parts]), *parts])

    def weight(self, shape: tuple[int, ...], axis: int) -> tuple[str, float | NDArray[np.float32]]:
        """Integers mostly at the ends of their range; the name of the real values, and their scale."""
        signed = self.weights == "s8"
        ends = np.array([-127, 127, 120, -90, 64, -64, 3, 0])
        integers = self.random.choice(ends, shape, p=[0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
        stored = integers.astype(np.int8) if signed else (integers + 128).astype(np.uint8)
        count = shape[axis] if self.per_channel else 1
        scales = self.random.uniform(0.005, 0.02, count).astype(np.float32)
        zeros = np.zeros(count, np.int8) if signed else np.full(count, 128, np.uint8)
        if not self.per_channel:
            scales, zeros = scales[0], zeros[0]
        names = [self.constant(stored), self.constant(scales), self.constant(zeros)]
        return self.add("DequantizeLinear", names, axis=axis), scales

    def conv(self, name: str, scale: float, shape: tuple[int, ...], **attributes: Any) -> tuple[str, float]:
        weight, weight_scale = self.weight(shape, 0)
        bias = self.random.integers(-4000, 4000, shape[0]).astype(np.int32)
        bias_scale = (np.float32(scale) * np.broadcast_to(weight_scale, shape[0])).astype(np.float32)
        if not self.per_channel:
            bias_scale = bias_scale[0]
        zeros = np.zeros(np.shape(bias_scale), np.int32)
        biased = self.add(
            "DequantizeLinear", [self.constant(bias), self.constant(bias_scale), self.constant(zeros)], axis=0
        )
        result = self.add("Conv", [name, weight, biased], **attributes)
        return result, self.spread(scale, weight_scale, int(np.prod(shape[1:])))

    def spread(self, scale: float, weight_scale: float | NDArray[np.float32], terms: int) -> float:
        """An output scale that clips some sums and wastes little of the range."""
        return float(scale * np.mean(weight_scale) * 80 * 70 * np.sqrt(terms) * 5 / 255)

    def model(self, inputs: dict[str, list[int | str]], output: str) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(model.SerializeToString())


Samples = dict[str, NDArray[Any]]
Net = Callable[[NetBuilder], tuple[bytes, Samples]]


def pictures(net: NetBuilder, channels: int) -> Samples:
    return {"x": net.random.normal(0, 1.5, (3, channels, SIDE, SIDE)).astype(np.float32)}


def convolutions(channels: int, outputs: int, kernel: int, group: int = 1, **attributes: Any) -> Net:
    """Conv, Relu, Conv 1x1, pooling: the second reads what the first clipped at zero."""

    def build(net: NetBuilder) -> tuple[bytes, Samples]:
        shape = (outputs, channels // group, kernel, kernel)
        quantized = net.rounded("x", 0.012)
        first, scale = net.conv(quantized, 0.012, shape, group=group, **attributes)
        relu = net.rounded(net.add("Relu", [first]), scale, positive=True)
        second, scale = net.conv(relu, scale, (5, outputs, 1, 1))
        pooled = net.rounded(net.add("GlobalAveragePool", [net.rounded(second, scale)]), scale / 4)
        return net.model({"x": ["N", channels, SIDE, SIDE]}, pooled), pictures(net, channels)

    return build


def residual(net: NetBuilder) -> tuple[bytes, Samples]:
    quantized = net.rounded("x", 0.012)
    left, scale = net.conv(quantized, 0.012, (6, 6, 3, 3), pads=[1, 1, 1, 1])
    added = net.rounded(net.add("Add", [net.rounded(left, scale), quantized]), scale)
    pooled = net.add("MaxPool", [added], kernel_shape=[2, 2], strides=[2, 2])
    return net.model({"x": ["N", 6, SIDE, SIDE]}, net.rounded(pooled, scale)), pictures(net, 6)


def dense(terms: int, outputs: int, *, gemm: bool, last: bool) -> Net:
    """One matrix product; `last` leaves its result in float."""

    def build(net: NetBuilder) -> tuple[bytes, Samples]:
        quantized = net.rounded("x", 0.012)
        transposed = gemm and bool(net.random.integers(2))
        weight, weight_scale = net.weight((outputs, terms) if transposed else (terms, outputs), 0 if transposed else 1)
        if gemm:
            bias = net.random.integers(-4000, 4000, outputs).astype(np.int32)
            scales = (np.float32(0.012) * weight_scale * np.ones(outputs, np.float32)).astype(np.float32)
            scales = scales if net.per_channel else scales[0]
            parts = [net.constant(bias), net.constant(scales), net.constant(np.zeros(np.shape(scales), np.int32))]
            biased = net.add("DequantizeLinear", parts, axis=0)
            result = net.add("Gemm", [quantized, weight, biased], transB=int(transposed))
        else:
            result = net.add("MatMul", [quantized, weight])
        if not last:
            result = net.rounded(result, net.spread(0.012, weight_scale, terms))
        samples: Samples = {"x": net.random.normal(0, 1.5, (9, terms)).astype(np.float32)}
        return net.model({"x": ["N", terms]}, result), samples

    return build


def attention(net: NetBuilder) -> tuple[bytes, Samples]:
    """A matrix product of two activations."""
    left, right = net.rounded("x", 0.012), net.rounded("y", 0.015)
    product = net.rounded(net.add("MatMul", [left, right]), 0.012 * 0.015 * 70 * 70 * 3 * 5 / 255)
    samples: Samples = {
        name: net.random.normal(0, 1.5, (2, 4, *shape)).astype(np.float32)
        for name, shape in {"x": (5, 9), "y": (9, 6)}.items()
    }
    return net.model({"x": ["N", 4, 5, 9], "y": ["N", 4, 9, 6]}, product), samples


def dynamic(net: NetBuilder) -> tuple[bytes, Samples]:
    """Dynamic quantization as ONNX Runtime's quantizer writes it; becomes DynamicQuantizeMatMul."""
    weight = net.random.choice(np.array([-127, 127, 60], np.int8), (33, 18))
    scale = net.random.uniform(0.005, 0.02, 18).astype(np.float32) if net.per_channel else np.float32(0.01)
    zero = net.constant(np.zeros(np.shape(scale), np.int8))
    outputs = ["q", "q_scale", "q_zero"]
    net.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], outputs, "dynamic"))
    sums = net.add("MatMulInteger", ["q", net.constant(weight), "q_zero", zero])
    scales = net.add("Mul", ["q_scale", net.constant(scale)])
    result = net.add("Mul", [net.add("Cast", [sums], to=TensorProto.FLOAT), scales])
    result = net.add("Add", [result, net.constant(net.random.normal(0, 1, 18).astype(np.float32))])
    samples: Samples = {"x": net.random.normal(0, 1.5, (2, 6, 33)).astype(np.float32)}
    return net.model({"x": ["N", 6, 33]}, result), samples


NETS: dict[str, Net] = {
    "conv 3x3": convolutions(8, 16, 3, pads=[1, 1, 1, 1]),
    "conv 3x3 of 3 channels": convolutions(3, 10, 3, pads=[1, 1, 1, 1], strides=[2, 2]),
    "conv 3x3 of 5 channels, dilated": convolutions(5, 7, 3, dilations=[2, 2]),
    "conv 3x3 of 6 channels": convolutions(6, 9, 3, auto_pad="SAME_UPPER"),
    "conv 3x3 of 1 channel": convolutions(1, 8, 3, pads=[0, 1, 1, 0]),
    "conv 1x1": convolutions(64, 24, 1),
    "conv 1x1 of 7 channels": convolutions(7, 24, 1, strides=[2, 2]),
    "conv in 2 groups": convolutions(8, 12, 3, 2, pads=[1, 1, 1, 1]),
    "conv in 2 groups of 3": convolutions(6, 8, 3, 2, auto_pad="SAME_LOWER", strides=[2, 2]),
    "depthwise": convolutions(16, 16, 3, 16, pads=[1, 1, 1, 1]),
    "depthwise of 5 channels": convolutions(5, 5, 5, 5, pads=[2, 2, 2, 2]),
    "depthwise, two outputs per channel": convolutions(6, 12, 3, 6, pads=[1, 1, 1, 1]),
    "residual": residual,
    "gemm": dense(64, 10, gemm=True, last=False),
    "gemm of 33, float result": dense(33, 17, gemm=True, last=True),
    "matmul": dense(50, 12, gemm=False, last=False),
    "matmul of 31, float result": dense(31, 20, gemm=False, last=True),
    "attention": attention,
    "dynamic": dynamic,
}


def random_net(name: str, seed: int, operands: str, *, per_channel: bool) -> tuple[bytes, Samples]:
    """One of NETS; `operands` is `u8s8`, `s8s8` or `u8u8`."""
    return NETS[name](NetBuilder(seed, operands[:2], operands[2:], per_channel=per_channel))
