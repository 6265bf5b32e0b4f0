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

from ..graph import Graph, add_weight, operator_counts
from ..passes import Evidence, NoOptions, Pass


class FoldBias(Pass[NoOptions]):
    """`Conv + Add(constant per channel)` becomes `Conv` with bias; two-dimensional `MatMul + Add` becomes `Gemm`."""

    name = "fold-bias"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        folded = sum(_fold(graph, node) for node in list(graph.graph) if node.op_type == "Conv" and node.domain == "")
        gemms = operator_counts(graph).get("Gemm", 0)
        rewritten = rewrite(graph, pattern_rewrite_rules=[matmul_add_to_gemm_rule])
        for node in rewritten.graph:
            if node.op_type == "Gemm" and node.domain == "":
                _flatten(rewritten, node)
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
    bias = _bias(other, channels=weight.numpy().shape[0], rank=len(weight.shape))
    if bias is None or other is None:
        return 0
    _replace(graph, conv, add, _initializer(graph, f"{result.name}_bias", bias))
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


def _flatten(graph: Graph, gemm: ir.Node) -> None:
    """Brings a constant Gemm bias such as (1, N) to (N,), the one shape that quantizers take per channel."""
    bias = gemm.inputs[2] if len(gemm.inputs) > 2 else None
    weight = gemm.inputs[1].const_value if gemm.inputs[1] is not None else None
    if bias is None or bias.const_value is None or weight is None:
        return
    channels = weight.numpy().shape[0 if gemm.attributes.get_int("transB", 0) else 1]
    array = bias.const_value.numpy()
    if array.shape == (channels,) or array.size not in (1, channels) or (array.ndim > 1 and array.shape[0] != 1):
        return
    flat = np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (channels,)), dtype=np.float32)
    gemm.replace_input_with(2, _initializer(graph, f"{bias.name}_flat", flat))


def _initializer(graph: Graph, name: str, array: NDArray[np.float32]) -> ir.Value:
    """A new weight of the graph, or the one that a node before made from the same values."""
    return graph.graph.initializers.get(name) or add_weight(graph, name, array)


def _replace(graph: Graph, conv: ir.Node, add: ir.Node, bias: ir.Value) -> None:
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
