"""Makes a constant that is added after a convolution or matrix product its bias.

Exporters of older frameworks write the bias as an Add of its own. Left there, a quantizer would round twice.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import matmul_add_to_gemm_rule

from edgewright.targets.board import Board

from ..graph import Graph, operator_counts
from ..passes import Evidence, NoOptions, Pass


class FoldBias(Pass[NoOptions]):
    """`Conv + Add(constant per channel)` becomes `Conv` with bias; two-dimensional `MatMul + Add` becomes `Gemm`."""

    name = "fold-bias"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        folded = sum(_fold(graph, node) for node in list(graph.graph) if node.op_type == "Conv" and node.domain == "")
        gemms = operator_counts(graph).get("Gemm", 0)
        rewritten = rewrite(graph, pattern_rewrite_rules=[matmul_add_to_gemm_rule])
        return rewritten, {
            "conv_biases": folded,
            "gemms": operator_counts(rewritten).get("Gemm", 0) - gemms,
        }


def _fold(graph: Graph, conv: ir.Node) -> int:
    """1 where the node's Add was folded, else 0."""
    weight = conv.inputs[1].const_value if conv.inputs[1] is not None else None
    has_bias = len(conv.inputs) > 2 and conv.inputs[2] is not None
    result = conv.outputs[0]
    uses = list(result.uses())
    if weight is None or has_bias or len(uses) != 1 or result.is_graph_output():
        return 0
    add = uses[0].node
    if add.op_type != "Add" or add.domain != "" or add.graph is not conv.graph:
        return 0
    other = add.inputs[1] if add.inputs[0] is result else add.inputs[0]
    bias = _bias(other, channels=int(weight.shape[0]), rank=len(weight.shape))
    if bias is None or other is None:
        return 0
    _replace(graph, conv, add, ir.Value(name=f"{result.name}_bias", const_value=ir.tensor(bias)))
    return 1


def _bias(value: ir.Value | None, channels: int, rank: int) -> NDArray[np.float32] | None:
    """The constant as one number per output channel, or None where it varies over anything else."""
    if value is None or value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return None
    array = value.const_value.numpy()
    if array.ndim > rank:
        return None
    padded = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if padded.shape != (1, channels) + (1,) * (rank - 2):
        return None
    return np.ascontiguousarray(padded.reshape(channels), dtype=np.float32)


def _replace(graph: Graph, conv: ir.Node, add: ir.Node, bias: ir.Value) -> None:
    bias.dtype, bias.shape = ir.DataType.FLOAT, ir.Shape(bias.const_value.shape)  # type: ignore[union-attr]
    graph.graph.register_initializer(bias)
    final = add.outputs[0]
    node = ir.Node(
        "",
        "Conv",
        [conv.inputs[0], conv.inputs[1], bias],
        list(conv.attributes.values()),
        name=conv.name,
        num_outputs=1,
    )
    new = node.outputs[0]
    new.name, new.type, new.shape = final.name, final.type, final.shape
    graph.graph.insert_before(conv, node)
    ir.convenience.replace_all_uses_with(final, new, replace_graph_outputs=True)
    graph.graph.remove([add, conv], safe=True)
