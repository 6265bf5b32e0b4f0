"""Which nodes are computed while a graph is walked, and what they give."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.folding import folded, is_known
from edgewright.compiler.known_values import Array
from edgewright.compiler.lower.native.lowering.lower import lower
from edgewright.compiler.tflite.emitter.emit import emit

BRANCHES = """<ir_version: 8, opset_import: ["": 17]>
g (float[1, 3] x) => (float[1, 3] y) <bool c = {1}> {
  y = If (c) <
    then_branch = then () => (float[1, 3] t) { t = Neg (x) },
    else_branch = other () => (float[1, 3] e) { e = Abs (x) }
  >
}"""


def node_of(text: str) -> ir.Node:
    return ir.serde.deserialize_node(parser.parse_node(text))


def is_two(value: ir.Value) -> Array | None:
    return np.float32(2) * np.ones(1, np.float32) if value.name == "two" else None


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("y = Neg (two)", True),
        ("y = Add (two, x)", False),
        ("y = Clip (two, , two)", True),
        ("y = Shape (x)", True),
        ("y = RandomNormal <shape = [1]> ()", False),
        ("y = Bernoulli (two)", False),
    ],
)
def test_known_is_what_depends_on_no_input_and_no_chance(text: str, known: bool) -> None:
    assert is_known(node_of(text), is_two) is known


@pytest.mark.parametrize(
    ("attributes", "sizes"),
    [("", [1, 2, 3]), ("<start = 1>", [2, 3]), ("<end = -1>", [1, 2]), ("<start = -2, end = 9>", [2, 3])],
)
def test_a_shape_is_known_without_its_numbers(attributes: str, sizes: list[int]) -> None:
    found = folded(node_of(f"y = Shape {attributes} (x)"), is_two, lambda _: (1, 2, 3), 17)
    np.testing.assert_array_equal(found["y"], np.array(sizes, np.int64))


def test_a_node_on_constants_is_computed() -> None:
    assert folded(node_of("y = Mul (two, two)"), is_two, lambda _: (), 17)["y"] == [4]


def test_branches_read_inputs_though_their_condition_is_known() -> None:
    graph = ir.from_proto(parser.parse_model(BRANCHES))
    with pytest.raises(UnsupportedModel, match="If at node"):
        emit(graph)
    with pytest.raises(UnsupportedModel, match="If at node"):
        lower(graph, 1)
