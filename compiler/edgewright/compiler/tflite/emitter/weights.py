"""Weights and biases of products as TFLite's kernels read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import onnx_ir as ir

from ..file.model import Array, Quantization
from .encodings import signed
from .sites import Site
from .walk import Walk

MAX_BIAS: Final = {"INT32": 2**31 - 1, "INT64": 2**39 - 1}
"""16-bit kernels sum in 48 bits; TFLite bounds their bias to 40 (quantization specification)."""


def weight(walk: Walk, value: ir.Value, arrange: Callable[[Array], Array], axis: int) -> int:
    """A weight, in integers where the graph has it so: also for float products, which then dequantize it themselves.

    `arrange` brings it from the graph's order into TFLite's; `axis` is that of its output channels there.
    """
    stored = walk.stored(value)
    name = value.name or "weight"
    if stored is not None and stored.encoding.kind == "int8" and not any(stored.encoding.quantization.zero_points):
        quantization = stored.encoding.quantization
        moved = replace(quantization, axis=axis if len(quantization.scales) > 1 else 0)
        return walk.draft.constant(name, arrange(signed(stored.integers, stored.encoding)), moved)
    known = walk.constant(value)
    if known is None:
        raise ValueError(f"{name!r} is no constant")
    return walk.draft.constant(name, arrange(known))


def bias(walk: Walk, site: Site, value: ir.Value | None, x: int, w: int, channels: int) -> int:
    """The bias of a product; zeros where it has none. In integers its scale is that of the products."""
    known = walk.constant(value) if value is not None else None
    numbers = np.zeros(channels, np.float32) if known is None else np.broadcast_to(known.reshape(-1), (channels,))
    name = value.name or "bias" if value is not None else f"{site.node.name}_bias"
    if not site.integer:
        return walk.draft.constant(name, np.ascontiguousarray(numbers.astype(np.float32)))
    activation, filters = walk.draft.tensors[x].quantization, walk.draft.tensors[w].quantization
    if activation is None or filters is None:
        raise ValueError(f"{name!r}: no scale")
    scales = np.float32(activation.scales[0]) * np.asarray(filters.scales, np.float32)
    kind = "INT64" if walk.draft.tensors[x].type == "INT16" else "INT32"
    quantization = Quantization(tuple(float(scale) for scale in scales), (0,) * len(scales))
    stored = walk.stored(value) if value is not None else None
    if stored is not None and stored.encoding.kind == "int32" and _same(stored.encoding.quantization, scales):
        integers = np.broadcast_to(stored.integers.reshape(-1), (channels,))
    else:
        steps = np.rint(numbers.astype(np.float64) / scales.astype(np.float64))
        integers = np.clip(steps, -MAX_BIAS[kind], MAX_BIAS[kind])
    dtype = np.int64 if kind == "INT64" else np.int32
    return walk.draft.constant(name, np.ascontiguousarray(integers.astype(dtype)), quantization)


def _same(quantization: Quantization, scales: Array) -> bool:
    own = np.asarray(quantization.scales, np.float32)
    return own.size in (1, scales.size) and bool(np.allclose(own, scales, rtol=1e-6, atol=0))
