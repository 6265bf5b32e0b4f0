"""Folds a Pad by zeros into the convolution after it; TensorFlow exports pad strided convolutions that way."""

from __future__ import annotations

from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import fuse_pad_into_conv_rule, normalize_pad_format_conv_rule

from edgewright.targets.board import Board

from ..graph import Graph, operator_counts
from ..passes import Evidence, NoOptions, Pass


class FoldPad(Pass[NoOptions]):
    """`Pad + Conv` becomes `Conv` with pads, where the padding is constant, zero, and only in space."""

    name = "fold-pad"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        before = operator_counts(graph).get("Pad", 0)
        folded = rewrite(graph, pattern_rewrite_rules=[normalize_pad_format_conv_rule, fuse_pad_into_conv_rule])
        left = operator_counts(folded).get("Pad", 0)
        return folded, {"folded": before - left, "left": left}
