"""Float optimisation: passes that keep what the model computes, one per file, run in the order of `FLOAT_PASSES`."""

from __future__ import annotations

from ..passes import NoOptions, Pass
from .batchnorm_folding import FoldBatchNormalization
from .bias_folding import FoldBias
from .constant_folding import FoldConstants
from .dead_code import RemoveDeadCode
from .transpose_cleanup import CleanTransposes

FLOAT_PASSES: tuple[Pass[NoOptions], ...] = (
    FoldConstants(),
    FoldBatchNormalization(),
    FoldBias(),
    CleanTransposes(),
    RemoveDeadCode(),
)
"""Folding first: it turns shape arithmetic and scaled weights into constants that later passes can match."""

__all__ = ["FLOAT_PASSES"]
