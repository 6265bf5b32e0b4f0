"""Removes data movement that moves nothing: identities, transposes that cancel, reshapes of reshapes, casts to self."""

from __future__ import annotations

from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import (
    no_op_cast_rule,
    no_op_expand_rule,
    no_op_transpose_rule,
    reshape_reshape_rule,
    transpose_transpose_rule,
)

from edgewright.targets.board import Board

from ..graph import Graph
from ..passes import Evidence, NoOptions, Pass, count_nodes
from .identity_removal import remove_identities


class CleanTransposes(Pass[NoOptions]):
    """Fewer copies, same numbers."""

    name = "clean-transposes"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        before = count_nodes(graph)
        remove_identities(graph)  # so that pairs around them meet
        rules = [
            no_op_transpose_rule,
            transpose_transpose_rule,
            reshape_reshape_rule,
            no_op_cast_rule,
            no_op_expand_rule,
        ]
        cleaned = rewrite(graph, pattern_rewrite_rules=rules)
        remove_identities(cleaned)  # cancelled pairs leave identities behind
        return cleaned, {"nodes_removed": before - count_nodes(cleaned)}
