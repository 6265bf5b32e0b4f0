"""From one type of numbers to another."""

from __future__ import annotations

from ..chain import Chain
from ..sites import Site
from ..walk import Walk
from .operator import Operator


def cast(walk: Walk, site: Site) -> None:
    """CAST; nothing where the type is the same."""
    value = site.input(0)
    placed = walk.place(value)
    x, kind = walk.data(site, value, placed.order), walk.type_of(site.results[0])
    chain = Chain(walk, site)
    chain.finish(x if walk.draft.tensors[x].type == kind else chain.cast(x, kind), placed.order)


TABLE = {"Cast": Operator(cast), "CastLike": Operator(cast)}
