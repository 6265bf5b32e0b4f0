"""All fusions, in the order in which one makes room for the next."""

from __future__ import annotations

from ..net import Net
from .borders import fold_borders
from .epilogues import fuse_epilogues
from .links import without_dead_layers
from .maps import maps_before_moves
from .moves import simplify_moves
from .normalization import join_normalizations
from .ports import keep_ports_apart


def fuse(net: Net) -> Net:
    """The same net with fewer layers."""
    net = fuse_epilogues(simplify_moves(without_dead_layers(net)))
    net = join_normalizations(fuse_epilogues(maps_before_moves(net)))
    return keep_ports_apart(without_dead_layers(fold_borders(net)))
