"""Parameters of operators that ONNX gives as constant inputs, or in older opsets as attributes."""

from __future__ import annotations

from ...attributes import integers
from ..file.model import Array
from .sites import Site
from .walk import Walk


def listed(walk: Walk, site: Site, index: int, name: str) -> tuple[int, ...] | None:
    """A list of integers; None where it is not given.

    Raises:
        UnsupportedModel: it is computed from data.
    """
    attribute = integers(site.node, name)
    if attribute is not None:
        return attribute
    found = known(walk, site, index, name)
    return None if found is None else tuple(int(each) for each in found.reshape(-1))


def known(walk: Walk, site: Site, index: int, name: str) -> Array | None:
    """The numbers of a constant input; None where it is not given.

    Raises:
        UnsupportedModel: it is computed from data.
    """
    value = site.optional(index)
    if value is None:
        return None
    found = walk.constant(value)
    if found is None:
        walk.refuse(site.node, f"its {name} are computed from data", "make them constants of the model")
    return found
