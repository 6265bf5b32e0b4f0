"""Small nets with fixed random weights, and random ones of any shape, for the quantizer's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.data import Samples
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph
from edgewright.compiler.optimize import FLOAT_PASSES
from edgewright.compiler.passes import NoOptions
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.calibration.statistics import Statistics
from edgewright.compiler.scratch import Scratch


def optimised(model: onnx.ModelProto) -> Graph:
    """As the compiler quantizes it."""
    graph = import_proto(model, "net")
    for float_pass in FLOAT_PASSES:
        graph = float_pass(graph, NoOptions()).graph
    return graph


def statistics_of(graph: Graph, inputs: Mapping[str, NDArray[np.float32]]) -> Statistics:
    """Of the graph's activations on these inputs."""
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder)) as scratch:
        return collect(graph, Samples(dict(inputs), None), scratch)


@dataclass
class Net:
    """Writes a net node by node; `here` is the tensor that the next node reads, `shape` its shape without the batch."""

    shape: tuple[int, ...]
    random: np.random.Generator
    opset: int = 17
    here: str = "x"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    input_shape: tuple[int, ...] = ()
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of each result, without the batch."""
    more_inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Beside `x`, without the batch."""

    def __post_init__(self) -> None:
        self.input_shape = self.shape

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        fan_in = int(np.prod(shape[1:])) or 1
        array = self.random.normal(size=shape) * scale / np.sqrt(fan_in)
        return self.constant(array.astype(np.float32))

    def constant(self, array: NDArray[Any] | np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator.lower()}{len(self.nodes)}"
        result = f"{name}_out"
        self.nodes.append(helper.make_node(operator, list(inputs), [result], name, **attributes))
        self.here = result
        self.shapes[result] = self.shape
        return result

    def conv(self, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> str:
        given, *size = self.shape
        pad = kernel // 2
        weight = self.weight(channels, given // groups, kernel, kernel)
        bias = self.constant((self.random.normal(size=channels) * 0.1).astype(np.float32))
        self.shape = (channels, *((side + 2 * pad - kernel) // stride + 1 for side in size))
        return self.node(
            "Conv",
            self.here,
            weight,
            bias,
            kernel_shape=[kernel] * 2,
            pads=[pad] * 4,
            strides=[stride] * 2,
            group=groups,
        )

    def max_pool(self) -> str:
        self.shape = (self.shape[0], *(side // 2 for side in self.shape[1:]))
        return self.node("MaxPool", self.here, kernel_shape=[2, 2], strides=[2, 2])

    def flatten(self) -> str:
        self.shape = (int(np.prod(self.shape)),)
        return self.node("Flatten", self.here, axis=1)

    def gemm(self, channels: int) -> str:
        weight, bias = self.weight(channels, self.shape[0]), self.weight(channels)
        self.shape = (channels,)
        return self.node("Gemm", self.here, weight, bias, transB=1)

    def model(self, *outputs: str, batch: str | int = "N") -> onnx.ModelProto:
        """The ONNX model with these outputs, or the last result."""
        names = outputs or (self.here,)
        shapes = {name: [batch, *shape] for name, shape in self.shapes.items()} | {self.here: [batch, *self.shape]}
        graph = helper.make_graph(
            self.nodes,
            "net",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
                for name, shape in {"x": self.input_shape, **self.more_inputs}.items()
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


def convolutional(seed: int = 0, opset: int = 17) -> Net:
    """Conv, depthwise, residual addition, pools, dense: every kind of integer operator but MatMul."""
    net = Net((3, 12, 12), np.random.default_rng(seed), opset)
    net.conv(8, stride=2)
    branch = net.node("Relu", net.here)
    net.conv(8, groups=8)
    net.node("Clip", net.here, net.constant(np.float32(0)), net.constant(np.float32(6)))
    net.conv(8, kernel=1)
    net.node("Add", net.here, branch)
    net.node("Relu", net.here)
    net.max_pool()
    net.conv(12)
    net.node("Relu", net.here)
    net.node("GlobalAveragePool", net.here)
    net.shape = (12, 1, 1)
    net.flatten()
    net.gemm(5)
    return net
