"""Whole nets of pictures and sequences: what lies channels last stays so, and only ports are transposed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.orders import in_memory
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.emitter.regrouping import regrouped
from edgewright.compiler.tflite.file.model import Array, Model
from tests.compiler.tflite.runs import run_litert, run_onnx
from tests.compiler.tflite.single_operator import CHECKED, SEEDS, kinds, normal

MANY = settings(CHECKED, max_examples=30)


@dataclass
class Net:
    """Nodes one after the other; `value` is the last result, of this shape."""

    seed: int
    shape: tuple[int, ...]
    value: str = "x"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, op_type: str, *constants: Array, others: tuple[str, ...] = (), **attributes: Any) -> str:
        names = [f"c{len(self.constants) + index}" for index in range(len(constants))]
        self.constants += [numpy_helper.from_array(each, name) for each, name in zip(constants, names, strict=True)]
        result = f"v{len(self.nodes)}"
        inputs = [self.value, *others, *names]
        self.nodes.append(helper.make_node(op_type, inputs, [result], name=f"n{len(self.nodes)}", **attributes))
        self.value = result
        return result

    def weights(self, *shape: int) -> Array:
        self.seed += 1
        return normal(self.seed, *shape, scale=0.5)

    def graph(self, shape: tuple[int, ...], *, free: bool = False) -> Graph:
        sizes: list[int | str] = ["N", *shape[1:]] if free else list(shape)
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
        result = onnx.ValueInfoProto(name=self.value)
        graph = helper.make_graph(self.nodes, "net", [given], [result], initializer=self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        return import_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True), "net")


STEPS = ("conv", "strided", "pool", "mean", "add", "scale", "concat", "slice", "split", "resize", "pad", "clip", "tile")


@st.composite
def nets(draw: st.DrawFn, axes: int = 2) -> tuple[Net, tuple[int, ...]]:
    shape = (1, draw(st.integers(1, 4)), *(draw(st.integers(5, 9)) for _ in range(axes)))
    net = Net(draw(SEEDS), shape)
    _step(net, "conv")
    for name in draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=7)):
        _step(net, name)
    _step(net, "conv")
    return net, shape


def _step(net: Net, name: str) -> None:
    _, channels, *sizes = net.shape
    axes, before = len(sizes), net.value
    if name in {"conv", "strided"}:
        stride = 2 if name == "strided" else 1
        net.add("Conv", net.weights(3, channels, *[3] * axes), pads=[1] * 2 * axes, strides=[stride] * axes)
        net.shape = (1, 3, *((size - 1) // stride + 1 for size in sizes))
    elif name in {"pool", "mean"}:
        net.add("MaxPool" if name == "pool" else "AveragePool", kernel_shape=[2] * axes, pads=[0, 1] * axes)
        net.shape = (1, channels, *_pooled(sizes))
    elif name == "add":
        net.add("Sigmoid")
        net.add("Add", others=(before,))
    elif name == "scale":
        net.add("Mul", net.weights(channels, *[1] * axes))
    elif name == "concat":
        net.add("Relu")
        net.add("Concat", others=(before,), axis=1)
        net.shape = (1, channels * 2, *sizes)
    elif name == "slice" and sizes[0] > 2:
        net.add("Slice", _integers(1), _integers(9999), _integers(2))
        net.shape = (1, channels, sizes[0] - 1, *sizes[1:])
    elif name == "split" and channels > 1:
        net.nodes.append(
            helper.make_node("Split", [before], [f"a{len(net.nodes)}", f"b{len(net.nodes)}"], axis=1, num_outputs=2)
        )
        net.value = net.nodes[-1].output[0]
        net.shape = (1, -(-channels // 2), *sizes)
    elif name == "resize" and max(sizes) < 20:
        net.add("Resize", np.array([], np.float32), np.array([1, 1, *[2] * axes], np.float32))
        net.shape = (1, channels, *(size * 2 for size in sizes))
    elif name == "pad" and min(sizes) > 1:
        net.add("Pad", _integers(*[0, 0, *[1] * axes] * 2), mode="reflect")
        net.shape = (1, channels, *(size + 2 for size in sizes))
    elif name == "clip":
        net.add("Clip", np.array(-0.5, np.float32), np.array(0.75, np.float32))
    elif name == "tile":
        net.add("Tile", _integers(1, 2, *[1] * axes))
        net.shape = (1, channels * 2, *sizes)


def _integers(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def _pooled(sizes: list[int]) -> list[int]:
    """Windows of 2 with pads [0, 1, …] as ONNX lists them: all before, then all after."""
    pads = [0, 1] * len(sizes)
    return [size + pads[axis] + pads[axis + len(sizes)] - 1 for axis, size in enumerate(sizes)]


def transposes(model: Model) -> int:
    return kinds(model).count("TRANSPOSE")


@MANY
@given(nets())
def test_only_ports_of_pictures_are_transposed(drawn: tuple[Net, tuple[int, ...]]) -> None:
    net, shape = drawn
    _agrees(net.graph(shape), normal(net.seed, *shape))


@MANY
@given(nets(axes=1))
def test_only_ports_of_sequences_are_transposed(drawn: tuple[Net, tuple[int, ...]]) -> None:
    net, shape = drawn
    _agrees(net.graph(shape), normal(net.seed, *shape))


def _agrees(graph: Graph, x: Array) -> None:
    model = emit(graph).model
    assert transposes(model) <= 2, kinds(model)
    (expected,) = run_onnx(graph, {"x": x}).values()
    (found,) = run_litert(model, {"x": x}).values()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


@MANY
@given(nets())
def test_callers_who_lie_channels_last_need_no_transpose(drawn: tuple[Net, tuple[int, ...]]) -> None:
    net, shape = drawn
    emitted = emit(net.graph(shape), Ports(channels_last=True))
    assert transposes(emitted.model) == 0
    assert len(emitted.channels_last) == 2


@MANY
@given(nets(), st.integers(2, 3))
def test_a_free_batch_goes_through(drawn: tuple[Net, tuple[int, ...]], batch: int) -> None:
    net, shape = drawn
    graph = net.graph(shape, free=True)
    x = normal(net.seed, batch, *shape[1:])
    (expected,) = run_onnx(graph, {"x": x}).values()
    (found,) = run_litert(emit(graph).model, {"x": x}).values()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("axes", [1, 2])
def test_a_flattened_picture_goes_into_products_as_it_lies(axes: int) -> None:
    shape = (1, 3, *[6] * axes)
    net = Net(1, shape)
    _step(net, "conv")
    net.add("Flatten")
    net.add("Gemm", net.weights(4, 3 * 6**axes), transB=1)
    model = emit(net.graph(shape), Ports(channels_last=axes == 2)).model
    assert transposes(model) == (axes == 1)
    _agrees(net.graph(shape), normal(5, *shape))


def test_reshapes_in_a_row_are_one() -> None:
    net = Net(1, (1, 24))
    for sizes in ([1, 4, 6], [1, 24], [1, 2, 12]):
        net.add("Reshape", np.array(sizes, np.int64))
    assert kinds(emit(net.graph((1, 24))).model) == ["RESHAPE"]
    net.add("Reshape", np.array([1, 24], np.int64))
    net.add("Relu")
    model = emit(net.graph((1, 24))).model
    assert kinds(model) == ["RELU"]
    assert len(model.tensors) == 2


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """A shape, another of as many elements, and an order in which the first lies."""
    source = draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5).map(tuple))
    target: list[int] = []
    for size in source:
        ways = draw(st.sampled_from(["keep", "join", "divide"]))
        if ways == "join" and target:
            target[-1] *= size
        elif ways == "divide" and size == 4:
            target += [2, 2]
        else:
            target.append(size)
    for _ in range(draw(st.integers(0, 2))):
        target.insert(draw(st.integers(0, len(target))), 1)
    return source, tuple(target), tuple(draw(st.permutations(range(len(source)))))


@settings(CHECKED, max_examples=400)
@given(reshapes())
def test_regrouped_memory_holds_the_reshaped_value(
    each: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
) -> None:
    source, target, order = each
    found = regrouped(source, target, order, free_batch=False)
    value = np.arange(int(np.prod(source))).reshape(source)
    if found is None:
        return
    memory = value.transpose(order).reshape(in_memory(target, found))
    np.testing.assert_array_equal(memory, value.reshape(target).transpose(found))


def test_a_sequence_that_becomes_a_picture_lies_as_one() -> None:
    assert regrouped((2, 3, 8), (2, 3, 1, 8), (0, 2, 1), free_batch=False) == (0, 2, 3, 1)
    assert regrouped((2, 3, 4, 5), (2, 3, 20), (0, 2, 3, 1), free_batch=False) == (0, 2, 1)
    assert regrouped((2, 3, 4, 5), (2, 12, 5), (0, 2, 3, 1), free_batch=False) is None
    assert regrouped((1, 3, 4), (3, 4), (0, 2, 1), free_batch=True) is None
