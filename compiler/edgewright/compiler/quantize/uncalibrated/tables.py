"""Tables that rows are gathered from (embeddings) as int8, with a scale per row: most of a small transformer's bytes.

DequantizeLinear cannot follow the rows, since its scales are those of one axis of its input. So rows and scales are
gathered side by side, and only what was gathered becomes float: 4 small operators, where dequantizing the table first
would touch all of it in every call. They stay int8 in int4 plans: ONNX Runtime gathers no int4 rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...faults import NotQuantizable
from ...graph import Graph
from ..plan import Operator, WeightEncoding
from ..weights import is_finite, rounded, spread, symmetric_encoding, weight_array
from .rewrite import Replacement, constant

TABLE_READER: Final = "Gather"
MIN_TABLE_ELEMENTS: Final = 4096
"""Below, three more operators cost more than the bytes are worth."""


def is_stored_table(node: ir.Node) -> bool:
    """Whether weight-only plans store the table that this node gathers from."""
    table = _table(node) if node.op_type == TABLE_READER else None
    return table is not None and table.size >= MIN_TABLE_ELEMENTS


def propose_table(node: ir.Node) -> Operator | None:
    """How a Gather reads its table; None where it has none, for it gathers from activations."""
    table = _table(node)
    if table is None:
        return None
    if table.size < MIN_TABLE_ELEMENTS:
        return Operator(compute="float", reason=f"its table has fewer than {MIN_TABLE_ELEMENTS} numbers")
    return Operator(compute="weights", weight=symmetric_encoding(table, "int8", 0))


def keep_shared_weights(graph: Graph, operators: dict[str, Operator]) -> None:
    """Makes operators float, in place, whose weight someone reads as float all the same: the file would hold both."""
    integer = {name for name, operator in operators.items() if operator.compute != "float"}
    stored = {name for name in integer if operators[name].compute == "weights"}
    for node in graph.graph:
        if node.name in stored and not _only_read_by(node, integer):
            operators[node.name] = Operator(compute="float", reason="another operator needs its weight as float")


def _only_read_by(node: ir.Node, names: set[str]) -> bool:
    weight = node.inputs[0 if node.op_type == TABLE_READER else 1]
    return weight is not None and all(use.node.name in names for use in weight.uses())


def replace_table(graph: Graph, node: ir.Node, encoding: WeightEncoding) -> None:
    """Replaces one Gather, in place; its result keeps its name.

    Raises:
        NotQuantizable: it takes no rows of a constant matrix, or the encoding is not int8 by row.
    """
    table, indices = _table(node), node.inputs[1]
    if table is None or indices is None or encoding.axis != 0 or encoding.type != "int8":
        raise NotQuantizable(
            f"operator {node.name!r}: the plan stores its table, which only works for the rows of a constant float32 "
            "matrix, as int8 with axis 0"
        )
    replacement = Replacement(graph, node)
    rows = constant(graph, f"{_table_name(node)}_rows", rounded(table, encoding))
    scales = constant(graph, f"{_table_name(node)}_row_scales", spread(encoding, 2).astype(np.float32))
    gathered = replacement.call("Gather", [rows, indices], "rows", ir.DataType.INT8, shape=node.outputs[0].shape)
    steps = replacement.call("Gather", [scales, indices], "scales")
    floats = replacement.call("Cast", [gathered], "float", attributes={"to": ir.DataType.FLOAT.value})
    replacement.finish(replacement.call("Mul", [floats, steps], "stored"))


def stored_weight(node: ir.Node) -> NDArray[np.float32] | None:
    """The constant weight of a node, whichever input it is: the table of a Gather, else as `weight_array`."""
    return _table(node) if node.op_type == TABLE_READER else weight_array(node)


def _table(node: ir.Node) -> NDArray[np.float32] | None:
    """The finite constant matrix of which a Gather takes rows, or None."""
    value = node.inputs[0]
    if value is None or value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return None
    array: NDArray[np.float32] = value.const_value.numpy()
    rows = array.ndim == 2 and node.attributes.get_int("axis", 0) in (0, -2)
    return array if rows and is_finite(array) else None


def _table_name(node: ir.Node) -> str:
    value = node.inputs[0]
    return (value.name if value is not None else None) or f"{node.name}_table"
