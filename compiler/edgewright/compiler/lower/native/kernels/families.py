"""Which families may compute a layer."""

from __future__ import annotations

from ....faults import UnsupportedModel
from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..net import (
    Alias,
    Convolution,
    Dense,
    Gather,
    Layer,
    Map,
    MatMul,
    Move,
    Normalize,
    Pool,
    Recurrent,
    Reduce,
    Resize,
    Separable,
    Softmax,
)
from . import (
    dense,
    depthwise,
    direct,
    gather,
    gemv,
    int8_dense,
    int8_depthwise,
    int8_direct,
    matmul,
    move,
    normalize,
    pool,
    recurrent,
    reduce,
    resize,
    separable,
    softmax,
    winograd,
)
from .map import FAMILY as MAP

FAMILIES: dict[type[Layer], tuple[Family, ...]] = {
    Dense: (gemv.FAMILY, dense.FAMILY, int8_dense.FAMILY),
    Convolution: (depthwise.FAMILY, winograd.FAMILY, direct.FAMILY, int8_depthwise.FAMILY, int8_direct.FAMILY),
    Separable: (separable.FAMILY,),
    Pool: (pool.FAMILY,),
    MatMul: (matmul.FAMILY,),
    Map: (MAP,),
    Move: (move.FAMILY,),
    Softmax: (softmax.FAMILY,),
    Normalize: (normalize.FAMILY,),
    Reduce: (reduce.FAMILY,),
    Gather: (gather.FAMILY,),
    Resize: (resize.FAMILY,),
    Recurrent: (recurrent.FAMILY,),
}
"""By kind of layer, the most special first."""


def families_of(layer: Layer) -> tuple[Family, ...]:
    """Every family that knows this kind of layer, the most special first."""
    return FAMILIES.get(type(layer), ())


def tiles_of(layer: Layer, machine: Machine) -> tuple[Tile, ...]:
    """Every way to write a layer, the best guess first.

    Raises:
        UnsupportedModel: there is none.
    """
    found = tuple(tile for family in families_of(layer) for tile in family.tiles(layer, machine))
    if not found:
        raise UnsupportedModel(
            f"{type(layer).__name__} at {layer.origin or '(no name)'}: no native kernel computes it; "
            "compile for another engine of the target (--engine)"
        )
    return found


def kernel_of(layer: Layer, machine: Machine, tile: Tile) -> Kernel:
    """The function of a layer by one of its tiles."""
    family = next(family for family in families_of(layer) if family.name == tile.family)
    return family.kernel(layer, machine, tile)


def default_kernels(layers: tuple[Layer, ...], machine: Machine) -> tuple[Kernel | None, ...]:
    """Every layer by its first tile; None for aliases, which need no code."""
    return tuple(
        None if isinstance(layer, Alias) else kernel_of(layer, machine, tiles_of(layer, machine)[0]) for layer in layers
    )
