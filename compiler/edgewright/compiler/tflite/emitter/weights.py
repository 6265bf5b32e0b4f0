"""Weights and biases of products as TFLite's kernels read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import onnx_ir as ir

from ..file.model import NUMPY, Array, Quantization
from ..hybrid import is_marked as is_hybrid
from .encodings import signed
from .sites import Site
from .walk import Walk

MAX_BIAS: Final = {"INT32": 2**31 - 1, "INT64": 2**39 - 1}
"""16-bit kernels sum in 48 bits; TFLite bounds their bias to 40 (quantization specification)."""
ROOM: Final = 4
"""A bias that does not fit its type gets a scale at which this many of it would."""

Arrange = Callable[[Array], Array]


def weight_and_bias(
    walk: Walk,
    site: Site,
    x: int,
    weight_index: int,
    bias_index: int | None,
    arrange: Arrange,
    *,
    axis: int,
    factors: tuple[float, float] = (1.0, 1.0),
) -> tuple[int, int]:
    """A constant weight and the bias of a product with `x`; zeros where there is no bias.

    `arrange` brings the weight from the graph's order into TFLite's; `axis` is that of its output channels there.
    `factors` scale weight and bias. In integers the bias's scale is that of the products; where a bias is too large for
    that, the scale of its channel's weights grows.
    """
    value = site.input(weight_index)
    addend = site.optional(bias_index) if bias_index is not None else None
    if not site.integer:
        w = _float_weight(walk, value, arrange, axis, factors[0])
        channels = walk.shape_of(w)[axis]
        numbers = _bias_numbers(walk, addend, channels, factors[1]).astype(np.float32)
        return w, walk.draft.constant(_bias_name(site, addend), np.ascontiguousarray(numbers))
    return _integers(walk, site, x, value, addend, arrange, axis, factors)


def no_bias(walk: Walk, x: int, w: int, channels: int) -> int:
    """Zeros as the bias of a product in integers."""
    activation, filters = walk.draft.tensors[x].quantization, walk.draft.tensors[w].quantization
    if activation is None or filters is None:
        raise ValueError("a product in integers without scales")
    scales = np.float32(activation.scales[0]) * np.asarray(filters.scales, np.float32)
    dtype = np.int64 if walk.draft.tensors[x].type == "INT16" else np.int32
    return walk.draft.constant("no_bias", np.zeros(channels, dtype), _around_zero(scales, 0))


def _float_weight(walk: Walk, value: ir.Value, arrange: Arrange, axis: int, factor: float) -> int:
    """A weight for a float product."""
    kept = _int8_weight(walk, value, arrange, axis) if factor == 1.0 else None
    if kept is not None:
        return kept
    return walk.draft.constant(value.name or "weight", arrange(_known(walk, value) * np.float32(factor)))


def _int8_weight(walk: Walk, value: ir.Value, arrange: Arrange, axis: int) -> int | None:
    """A weight for a float product that stays int8 in the file; None where the graph has it otherwise.

    DEQUANTIZE makes it float when the model is loaded: TFLite's own products of floats and int8 weights would round the
    floats too. They are written only where the graph was read from a file with them. (LiteRT 2.3: 0.5 to 0.7 % off, and
    not even numbers of that size from a depthwise filter with one scale.)
    """
    stored = walk.stored(value)
    if stored is None or stored.encoding.kind != "int8":
        return None
    encoding, integers = stored.encoding.quantization, arrange(signed(stored.integers, stored.encoding))
    around_zero, per_tensor = not any(encoding.zero_points), len(encoding.scales) == 1
    repeats = 1 if per_tensor else integers.shape[axis] // len(encoding.scales)
    moved = Quantization(encoding.scales * repeats, encoding.zero_points * repeats, 0 if per_tensor else axis)
    if around_zero and is_hybrid(value):
        return walk.draft.constant(value.name or "weight", integers, moved)
    if not (around_zero or per_tensor):
        return None
    constant = walk.draft.constant(f"{value.name}_integers", integers, moved)
    made = walk.draft.tensor(value.name or "weight", "FLOAT32", integers.shape)
    walk.emit("DEQUANTIZE", (constant,), (made,))
    return made


def _integers(
    walk: Walk,
    site: Site,
    x: int,
    value: ir.Value,
    addend: ir.Value | None,
    arrange: Arrange,
    axis: int,
    factors: tuple[float, float],
) -> tuple[int, int]:
    """A weight and a bias for a product in integers, as `weight_and_bias` has them."""
    stored, activation = walk.stored(value), walk.draft.tensors[x].quantization
    if stored is None or activation is None:
        raise ValueError(f"{value.name!r}: no scale")
    step, kind = np.float32(activation.scales[0]), "INT64" if walk.draft.tensors[x].type == "INT16" else "INT32"
    integers = arrange(signed(stored.integers, stored.encoding))
    channels = integers.shape[axis]
    scales = np.asarray(stored.encoding.quantization.scales, np.float32) * np.float32(factors[0])
    if scales.size > 1:
        scales = np.tile(scales, channels // scales.size)  # groups of a transposed convolution share them
    exact = _exact_bias(walk, addend, step * scales, channels, factors)
    if exact is None:
        numbers = _bias_numbers(walk, addend, channels, factors[1]).astype(np.float64)
        integers, scales = _with_room(integers, scales, numbers / activation.scales[0], MAX_BIAS[kind], axis)
        exact = np.rint(numbers / (step * scales).astype(np.float64))
    bias = np.ascontiguousarray(exact.astype(NUMPY[kind]))
    w = walk.draft.constant(value.name or "weight", integers, _around_zero(scales, axis))
    return w, walk.draft.constant(_bias_name(site, addend), bias, _around_zero(step * scales, 0))


def _around_zero(scales: Array, axis: int) -> Quantization:
    given = tuple(float(scale) for scale in scales)
    return Quantization(given, (0,) * len(given), axis if len(given) > 1 else 0)


def _exact_bias(
    walk: Walk, addend: ir.Value | None, scales: Array, channels: int, factors: tuple[float, float]
) -> Array | None:
    """The graph's own integers where they are steps of these scales."""
    stored = walk.stored(addend) if addend is not None else None
    if stored is None or stored.encoding.kind != "int32" or factors[0] != factors[1]:
        return None
    own = np.asarray(stored.encoding.quantization.scales, np.float32) * np.float32(factors[1])
    if own.size not in {1, scales.size} or not np.allclose(own, scales, rtol=1e-6, atol=0):
        return None
    return np.broadcast_to(stored.integers.reshape(-1), (channels,))


def _with_room(integers: Array, scales: Array, wanted: Array, limit: int, axis: int) -> tuple[Array, Array]:
    """Weights and scales at which a bias fits its type (`wanted`, as a real number over the activation's scale).

    Where it does not, one step of the products is nothing beside the bias, and rounding the weights loses nothing that
    a result would show.
    """
    needed = np.abs(wanted) / limit
    if scales.size == 1:
        needed = needed.max(keepdims=True, initial=0.0)
    short = needed > scales
    if not short.any():
        return integers, scales
    larger = np.where(short, needed * ROOM, scales).astype(np.float32)
    shape = [1] * integers.ndim
    shape[axis] = -1
    shares = (scales.astype(np.float64) / larger).reshape(shape if scales.size > 1 else [1] * integers.ndim)
    return np.rint(integers * shares).astype(np.int8), larger


def _bias_numbers(walk: Walk, addend: ir.Value | None, channels: int, factor: float) -> Array:
    if addend is None:
        return np.zeros(channels, np.float32)
    return np.broadcast_to(_known(walk, addend).reshape(-1) * np.float32(factor), (channels,))


def _bias_name(site: Site, addend: ir.Value | None) -> str:
    return addend.name or "bias" if addend is not None else f"{site.node.name}_bias"


def _known(walk: Walk, value: ir.Value) -> Array:
    known = walk.constant(value)
    if known is None:
        raise ValueError(f"{value.name!r} is no constant")
    return known
