"""Float optimisation: passes that keep what the model computes, one per file, run in the order of `FLOAT_PASSES`."""

from __future__ import annotations

from ..passes import NoOptions, Pass
from .batchnorm_folding import FoldBatchNormalization
from .bias_folding import FoldBias
from .clip_fusion import FuseClips
from .constant_folding import FoldConstants
from .dead_code import RemoveDeadCode
from .hard_swish_expansion import ExpandHardSwish
from .mean_pooling import PoolMeans
from .no_op_removal import RemoveNoOps
from .pad_folding import FoldPad
from .scale_folding import FoldScale
from .transpose_cleanup import CleanTransposes
from .transpose_sinking import SinkTransposes
from .weight_dequantization import DequantizeWeights

FLOAT_PASSES: tuple[Pass[NoOptions], ...] = (
    DequantizeWeights(),
    FoldConstants(),
    RemoveNoOps(),
    SinkTransposes(),
    CleanTransposes(),
    FoldPad(),
    PoolMeans(),
    FoldBatchNormalization(),
    FoldScale(),
    FoldBias(),
    FuseClips(),
    ExpandHardSwish(),
    RemoveDeadCode(),
)
"""Folding first: it turns shape arithmetic and scaled weights into constants that later passes can match. Data movement
goes next, so that a product and what follows it become neighbours."""

__all__ = ["FLOAT_PASSES"]
