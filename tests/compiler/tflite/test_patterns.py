"""Operators that came as several nodes are found where they are, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.patterns import pattern_with
from edgewright.compiler.tflite.emitter.prepare import prepared
from tests.compiler.tflite.runs import run_litert, run_onnx

Node = tuple[str, tuple[str, ...], str]
CONSTANTS = {"half": 0.5, "one": 1.0, "two": 2.0, "root": np.sqrt(2.0), "inverse": np.sqrt(0.5)}
GELUS: dict[str, tuple[Node, ...]] = {
    "half of all": (
        ("Div", ("x", "root"), "a"), ("Erf", ("a",), "b"), ("Add", ("b", "one"), "c"),
        ("Mul", ("x", "c"), "d"), ("Mul", ("d", "half"), "y"),
    ),
    "half of x": (
        ("Mul", ("half", "x"), "h"), ("Mul", ("x", "inverse"), "a"), ("Erf", ("a",), "b"),
        ("Add", ("one", "b"), "c"), ("Mul", ("h", "c"), "y"),
    ),
    "half of the sum": (
        ("Div", ("x", "root"), "a"), ("Erf", ("a",), "b"), ("Add", ("b", "one"), "c"),
        ("Mul", ("c", "half"), "d"), ("Mul", ("d", "x"), "y"),
    ),
}  # fmt: skip


def graph_of(nodes: tuple[Node, ...], *outputs: str, alpha: float = 1 / 6, beta: float = 0.5) -> Graph:
    """Of a few elements; HardSigmoid nodes get the slope and the offset."""
    attributes: dict[str, dict[str, Any]] = {"HardSigmoid": {"alpha": alpha, "beta": beta}}
    made = [
        helper.make_node(kind, list(read), [result], name=f"make_{result}", **attributes.get(kind, {}))
        for kind, read, result in nodes
    ]
    names = outputs or ("y",)
    proto = helper.make_model(
        helper.make_graph(
            made,
            "patterns",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in names],
            [numpy_helper.from_array(np.asarray(number, np.float32), name) for name, number in CONSTANTS.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    return import_proto(proto, "patterns")


def types(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.graph]


def check_equal(graph: Graph) -> None:
    inputs = {"x": np.linspace(-6, 6, 64, dtype=np.float32)[None]}
    found = run_litert(emit(graph).model, inputs)
    for name, truth in run_onnx(graph, inputs).items():
        np.testing.assert_allclose(found[name], truth, atol=2e-6)


@pytest.mark.parametrize("form", GELUS)
def test_gelu_however_it_is_written(form: str) -> None:
    graph = graph_of(GELUS[form])
    assert types(prepared(graph)) == ["Gelu"]
    assert prepared(graph).graph.outputs[0].name == "y"
    assert len(graph.graph) == len(GELUS[form])
    check_equal(graph)


@pytest.mark.parametrize("read", [("x", "g"), ("g", "x")])
def test_hard_swish_in_either_order(read: tuple[str, str]) -> None:
    graph = graph_of((("HardSigmoid", ("x",), "g"), ("Mul", read, "y")))
    assert types(prepared(graph)) == ["HardSwish"]
    assert all((found := pattern_with(node)) is not None and len(found.nodes) == 2 for node in graph.graph)
    check_equal(graph)


@pytest.mark.parametrize(
    ("nodes", "changes"),
    [
        ((("HardSigmoid", ("x",), "g"), ("Mul", ("x", "g"), "y")), {"alpha": 0.2}),
        ((("HardSigmoid", ("x",), "g"), ("Mul", ("x", "g"), "y")), {"beta": 0.4}),
        ((("HardSigmoid", ("x",), "g"), ("Mul", ("two", "g"), "y")), {}),
        ((("Sigmoid", ("x",), "g"), ("Mul", ("x", "g"), "y")), {}),
        ((("HardSigmoid", ("x",), "g"), ("Mul", ("x", "g"), "p"), ("Add", ("p", "g"), "y")), {}),
        ((*GELUS["half of x"][:3], ("Add", ("two", "b"), "c"), ("Mul", ("h", "c"), "y")), {}),
        ((("Mul", ("two", "x"), "h"), *GELUS["half of x"][1:]), {}),
    ],
)
def test_what_only_looks_like_one_stays(nodes: tuple[Node, ...], changes: dict[str, float]) -> None:
    graph = graph_of(nodes, **changes)
    assert types(prepared(graph)) == [kind for kind, *_ in nodes]
    assert all(pattern_with(node) is None for node in graph.graph)
    check_equal(graph)


def test_a_gate_that_is_an_output_stays() -> None:
    graph = graph_of((("HardSigmoid", ("x",), "g"), ("Mul", ("x", "g"), "y")), "y", "g")
    assert types(prepared(graph)) == ["HardSigmoid", "Mul"]
    check_equal(graph)
