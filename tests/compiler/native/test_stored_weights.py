"""Float products by weights that are kept as integers: small, right, and the same bits everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.graph import Graph
from edgewright.compiler.lower.native.expression import Accumulator, Row, call
from edgewright.compiler.lower.native.fusion.fuse import fuse
from edgewright.compiler.lower.native.interpret import run as interpret
from edgewright.compiler.lower.native.kernels.families import default_kernels
from edgewright.compiler.lower.native.lowering.lower import lower
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Array, Dense, Epilogue, Net, Tensor
from edgewright.compiler.lower.native.source import make_source
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.quantize.uncalibrated.weight_only import emit_weights, propose_weights
from tests.compiler import nets
from tests.compiler.native.cross import ARM7, ARM7_FMA, AVX2, NEON, foreign, run_here
from tests.compiler.native.every_tile_of import Case, foreign_outputs_of, outputs_of
from tests.compiler.native.single_layer import HERE, PLAIN

SIZES = ((1, 139, 27), (1, 640, 128), (3, 300, 70), (9, 40, 33), (2, 1, 1))
"""Positions, depth, channels: of both families, with whole and partial vectors, sums and panels."""


def cases(sizes: Sequence[tuple[int, int, int]] = SIZES) -> list[Case]:
    """Layers as lowering makes them, weights at both ends of int8 among theirs."""
    random = np.random.default_rng(0)
    found: list[Case] = []
    for positions, depth, channels in sizes:
        rows = (random.uniform(0.001, 0.01, channels).astype(np.float32), random.normal(size=channels).astype("f4"))
        layer = Dense(
            x=Tensor("x", (positions, depth)),
            y=Tensor("y", (positions, channels)),
            weight=random.integers(-128, 128, (channels, depth)).astype(np.int8),
            epilogue=Epilogue(call("add", call("mul", Accumulator(), Row(0)), Row(1)), rows),
        )
        found.append((layer, {"x": random.normal(size=(positions, depth)).astype(np.float32)}))
    return found


def reference(case: Case) -> Array:
    """In float64, of the dequantized weights."""
    layer, arrays = case
    assert isinstance(layer, Dense)
    scale, bias = layer.epilogue.rows
    weight = layer.weight.astype(np.float64) * scale[:, None]
    return np.asarray(arrays["x"].astype(np.float64) @ weight.T + bias)


@pytest.mark.parametrize("machine", [HERE, AVX2, PLAIN], ids=lambda machine: machine.name)
def test_sums_are_those_of_the_dequantized_weights(machine: Machine) -> None:
    drawn = cases()
    for case, outputs in zip(drawn, outputs_of(drawn, machine), strict=True):
        expected = reference(case)
        for tile, output in outputs.items():
            assert np.abs(output - expected).max() <= 2e-6 * np.abs(expected).max(), tile
            np.testing.assert_array_equal(output, next(iter(outputs.values())), err_msg=str(tile))


def test_integers_give_the_bits_of_the_same_numbers_as_floats() -> None:
    ((layer, arrays),) = cases(SIZES[3:4])
    assert isinstance(layer, Dense)
    plain = replace(layer, weight=layer.weight.astype(np.float32))
    stored, floats = outputs_of([(layer, arrays), (plain, arrays)], AVX2)
    np.testing.assert_array_equal(next(iter(stored.values())), next(iter(floats.values())))


@pytest.mark.parametrize("machine", foreign(NEON, ARM7_FMA, ARM7))
def test_arm_gives_the_bits_of_this_machine(machine: Machine) -> None:
    drawn = cases(SIZES[2:4])
    here = outputs_of(drawn, HERE if machine.fma else PLAIN)
    for expected, found in zip(here, foreign_outputs_of(drawn, machine), strict=True):
        for tile, output in found.items():
            np.testing.assert_array_equal(output, next(iter(expected.values())), err_msg=str(tile))


def weights(net: Net) -> list[str]:
    """Types of all weights."""
    return [layer.weight.dtype.name for layer in net.layers if isinstance(layer, Dense)]


def native(net: Net, inputs: dict[str, Array]) -> dict[str, Array]:
    kernels = {1: default_kernels(net.layers, HERE)}
    return run_here(make_source("test", {1: net}, kernels, HERE, "test"), HERE, inputs)


def encoder() -> Graph:
    """Gemm, Relu, Gemm, a residual, Gemm."""
    net = nets.Net((48,), np.random.default_rng(3))
    first = net.gemm(64)
    net.node("Relu", first)
    second = net.gemm(64)
    net.node("Add", second, first)
    net.gemm(10)
    return nets.optimised(net.model())


@pytest.mark.parametrize("per_channel", [True, False])
def test_models_with_stored_weights_keep_them(per_channel: bool) -> None:
    graph = encoder()
    scheme = Scheme(method="weights", per_channel=per_channel)
    stored = emit_weights(graph, propose_weights(graph, scheme))
    net = fuse(lower(stored, 3))
    assert weights(net) == ["int8"] * 3
    name = net.inputs[0].name
    x = {name: np.random.default_rng(4).normal(size=(3, 48)).astype(np.float32)}
    found, expected = native(net, x), interpret(net, x)
    for output, wanted in expected.items():
        assert np.abs(found[output] - wanted).max() <= 2e-6 * np.abs(wanted).max()


def product(kind: str, scale: Array, axis: int, **attributes: Any) -> Graph:
    """x [2, 3, 5] or [2, 5] by a dequantized matrix, from ONNX as it may come."""
    random = np.random.default_rng(1)
    transposed = bool(attributes.get("transB"))
    zero = np.full(scale.shape, 128 if kind == "Gemm" else 0, np.uint8 if kind == "Gemm" else np.int8)
    integers = random.integers(0, 128, (4, 5) if transposed else (5, 4)).astype(zero.dtype)
    bias = random.normal(size=4).astype(np.float32)
    constants = {"w": integers, "s": scale, "z": zero} | ({"c": bias} if kind == "Gemm" else {})
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], "dq", axis=axis),
        helper.make_node(kind, ["x", "wf", *(["c"] if kind == "Gemm" else [])], ["y"], "product", **attributes),
    ]
    shape = [2, 5] if kind == "Gemm" else [2, 3, 5]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return ir.from_proto(onnx.load_model_from_string(model.SerializeToString()))


PER_COLUMN = np.array([0.5, 0.01, 0.02, 3.0], np.float32)


@pytest.mark.parametrize(
    ("graph", "kept"),
    [
        (product("MatMul", PER_COLUMN, 1), "int8"),
        (product("MatMul", PER_COLUMN, -1), "int8"),
        (product("MatMul", np.array(0.1, np.float32), 1), "int8"),
        (product("MatMul", np.full(5, 0.1, np.float32), 0), "float32"),
        (product("Gemm", PER_COLUMN, 1, alpha=0.5, beta=2.0), "int8"),
        (product("Gemm", PER_COLUMN, 0, transB=1), "int8"),
        (product("Gemm", np.full(5, 0.1, np.float32), 1, transB=1), "float32"),
    ],
)
def test_products_keep_integers_whose_scale_is_outside_the_sum(graph: Graph, kept: str) -> None:
    net = fuse(lower(graph, 2))
    assert weights(net) == [kept]
    x = {"x": np.random.default_rng(0).normal(size=net.inputs[0].shape).astype(np.float32)}
    wanted = reference_of(graph, x["x"])
    assert np.abs(interpret(net, x)["y"] - wanted).max() <= 2e-6 * np.abs(wanted).max()


def reference_of(graph: Graph, x: Array) -> Array:
    """The ONNX operators by their definition, in float64."""
    given = {name: value.const_value.numpy() for name, value in graph.graph.initializers.items() if value.const_value}
    dequantize, node = list(graph.graph)
    scale = given["s"].astype(np.float64)
    if scale.ndim:
        scale = np.expand_dims(scale, 1 - dequantize.attributes["axis"].as_int() % 2)
    weight = (given["w"].astype(np.float64) - given["z"].reshape(-1)[0]) * scale
    weight = weight.T if "transB" in node.attributes else weight
    alpha, beta = (node.attributes.get_float(name, 1.0) or 0.0 for name in ("alpha", "beta"))
    return np.asarray(alpha * (x.astype(np.float64) @ weight) + beta * given.get("c", 0.0))
