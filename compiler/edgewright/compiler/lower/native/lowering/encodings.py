"""Scales and zero points of integer operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import onnx_ir as ir

from ....attributes import given, needed
from ..net import Array, Dtype
from .walk import Walk


@dataclass(frozen=True)
class Encoding:
    """How integers stand for reals."""

    scale: Array
    """float32, flat: one number, or one per channel."""
    zero_point: Array
    """Integers, flat."""

    @property
    def step(self) -> np.float32:
        return np.float32(self.scale[0])

    @property
    def zero(self) -> int:
        return int(self.zero_point[0])


def encoding(walk: Walk, node: ir.Node, scale: int, zero: int) -> Encoding:
    """Two inputs of a node.

    Raises:
        UnsupportedModel: they are computed at run time.
    """
    known = walk.constant(needed(node, scale))
    if known is None:
        _refuse_dynamic(walk, node)
    value = given(node, zero)
    zeros = np.zeros(1, np.uint8) if value is None else walk.constant(value)
    if zeros is None:
        _refuse_dynamic(walk, node)
    return Encoding(known.astype(np.float32).reshape(-1), zeros.reshape(-1))


def _refuse_dynamic(walk: Walk, node: ir.Node) -> NoReturn:
    walk.refuse(node, "its scales are computed at run time", "quantize statically, or compile for another engine")


def dtype_of(y: Encoding) -> Dtype:
    """Of the integers: their zero point's."""
    return "s8" if y.zero_point.dtype == np.int8 else "u8"
