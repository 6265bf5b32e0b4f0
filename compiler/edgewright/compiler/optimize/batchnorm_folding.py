"""Folds batch normalisation into the convolution or matrix product before it."""

from __future__ import annotations

from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from edgewright.targets.board import Board

from ..graph import Graph, operator_counts
from ..passes import Evidence, NoOptions, Pass


class FoldBatchNormalization(Pass[NoOptions]):
    """Scales weights and shifts biases, so that the normalisation is gone at run time."""

    name = "fold-batchnorm"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        before = operator_counts(graph).get("BatchNormalization", 0)
        rules = [
            fuse_batchnorm_into_conv_rule,
            fuse_batchnorm_into_conv_transpose_rule,
            fuse_batchnorm_into_gemm_rule,
        ]
        folded = rewrite(graph, pattern_rewrite_rules=rules)
        left = operator_counts(folded).get("BatchNormalization", 0)
        return folded, {"folded": before - left, "left": left}
