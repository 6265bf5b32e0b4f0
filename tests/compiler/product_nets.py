"""Small float nets made of products, with fixed random weights: an encoder, a perceptron, single operators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session

WIDTH = 64
HEADS = 4
VOCABULARY = 300
LABELS = 8
Arrays = dict[str, NDArray[Any]]


class Net:
    """Collects nodes and weights; every node bears the name of its result."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, array: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        return self.constant(name, (self.random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32))

    def call(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        product = self.call("MatMul", [x, self.weight(f"{name}.w", inputs, outputs)], f"{name}.product")
        return self.call("Add", [product, self.weight(f"{name}.b", outputs)], name)

    def graph(self, inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, list[Any]], opset: int = 17) -> Graph:
        proto = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            self.weights,
        )
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        return import_proto(model, "test")


def encoder(layers: int = 2, opset: int = 17) -> Graph:
    """A transformer encoder: token ids [B, L] to logits [B, L, 8]; batch and length are free."""
    net = Net()
    net.constant("split", np.array([0, 0, HEADS, WIDTH // HEADS], dtype=np.int64))
    net.constant("merge", np.array([0, 0, WIDTH], dtype=np.int64))
    net.constant("root", np.float32(1 / np.sqrt(WIDTH // HEADS)))
    x = net.call("Gather", [net.weight("table", VOCABULARY, WIDTH), "ids"], "embedded")
    for index in range(layers):
        x = _layer(net, x, f"layer{index}")
    net.call("MatMul", [x, net.weight("head.w", WIDTH, LABELS)], "logits")
    return net.graph({"ids": (TensorProto.INT64, ["B", "L"])}, {"logits": ["B", "L", LABELS]}, opset)


def _layer(net: Net, x: str, name: str) -> str:
    def heads(part: str, order: list[int]) -> str:
        flat = net.linear(x, f"{name}.{part}", WIDTH, WIDTH)
        return net.call(
            "Transpose", [net.call("Reshape", [flat, "split"], f"{flat}.split")], f"{flat}.heads", perm=order
        )

    def normalised(value: str, part: str) -> str:
        net.constant(f"{name}.{part}.scale", np.linspace(0.5, 1.5, WIDTH, dtype=np.float32))
        net.weight(f"{name}.{part}.shift", WIDTH)
        return net.call(
            "LayerNormalization", [value, f"{name}.{part}.scale", f"{name}.{part}.shift"], f"{name}.{part}", axis=-1
        )

    query, key = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1])
    scores = net.call("Mul", [net.call("MatMul", [query, key], f"{name}.scores"), "root"], f"{name}.scaled")
    shares = net.call("Softmax", [scores], f"{name}.shares", axis=-1)
    mixed = net.call("MatMul", [shares, heads("value", [0, 2, 1, 3])], f"{name}.mixed")
    merged = net.call(
        "Reshape", [net.call("Transpose", [mixed], f"{name}.back", perm=[0, 2, 1, 3]), "merge"], f"{name}.merged"
    )
    attended = normalised(
        net.call("Add", [x, net.linear(merged, f"{name}.out", WIDTH, WIDTH)], f"{name}.sum1"), "norm1"
    )
    wide = net.call("Relu", [net.linear(attended, f"{name}.up", WIDTH, 4 * WIDTH)], f"{name}.relu")
    down = net.linear(wide, f"{name}.down", 4 * WIDTH, WIDTH)
    return normalised(net.call("Add", [attended, down], f"{name}.sum2"), "norm2")


def perceptron() -> Graph:
    """Two inputs that meet: Gemm of each, sum, Relu, Gemm with transB."""
    net = Net(1)
    left = net.call("Gemm", ["a", net.weight("wa", 48, 64), net.weight("ba", 64)], "left")
    right = net.call("Gemm", ["b", net.weight("wb", 32, 64)], "right")
    hidden = net.call("Relu", [net.call("Add", [left, right], "sum")], "hidden")
    net.call("Gemm", [hidden, net.weight("wc", 10, 64), net.weight("bc", 10)], "y", transB=1)
    kinds: dict[str, tuple[int, list[Any]]] = {"a": (TensorProto.FLOAT, ["N", 48]), "b": (TensorProto.FLOAT, ["N", 32])}
    return net.graph(kinds, {"y": ["N", 10]})


def ids(batch: int = 4, length: int = 16, seed: int = 3) -> Arrays:
    return {"ids": np.random.default_rng(seed).integers(0, VOCABULARY, (batch, length))}


def pairs(count: int = 64) -> Arrays:
    random = np.random.default_rng(4)
    return {
        "a": random.normal(size=(count, 48)).astype(np.float32),
        "b": random.normal(size=(count, 32)).astype(np.float32),
    }


def outputs(graph: Graph, arrays: Arrays, arithmetic: Arithmetic = Arithmetic.ENGINE) -> NDArray[np.float64]:
    """The first output, of all samples in one call."""
    first: NDArray[Any] = open_session(to_bytes(graph), arithmetic).run(None, arrays)[0]
    return first.astype(np.float64)


def fidelity_db(graph: Graph, reference: Graph, arrays: Arrays, arithmetic: Arithmetic = Arithmetic.ENGINE) -> float:
    """Signal to noise of the first output against that of the reference."""
    wanted = outputs(reference, arrays)
    noise = np.square(outputs(graph, arrays, arithmetic) - wanted).sum()
    return float(10 * np.log10(np.square(wanted).sum() / max(noise, 1e-30)))


def fused_operators(graph: Graph, folder: Path) -> Counter[str]:
    """What ONNX Runtime makes of the graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(to_bytes(graph), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)
