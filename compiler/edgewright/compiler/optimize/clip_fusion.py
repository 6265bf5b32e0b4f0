"""Brings bounded activations to the one form that kernels and quantizers know: Relu, or Clip with constant bounds.

ReLU6 is exported as Min(Max(x, 0), 6), as Relu and Min, or as a Clip after a Relu.
"""

from __future__ import annotations

from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import (
    max_max_rule,
    max_min_rule,
    min_max_rule,
    min_min_rule,
    successive_clip_relu_rule,
    successive_clip_rule,
    successive_relu_clip_rule,
    successive_relu_rule,
)

from edgewright.targets.board import Board

from ..graph import Graph
from ..passes import Evidence, NoOptions, Pass, count_nodes

RULES = [
    max_max_rule,
    max_min_rule,
    min_max_rule,
    min_min_rule,
    successive_clip_relu_rule,
    successive_clip_rule,
    successive_relu_clip_rule,
    successive_relu_rule,
]


class FuseClips(Pass[NoOptions]):
    """Fewer nodes between a product and the next, same numbers."""

    name = "fuse-clips"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        before = count_nodes(graph)
        fused = rewrite(graph, pattern_rewrite_rules=RULES)
        return fused, {"nodes_removed": before - count_nodes(fused)}
