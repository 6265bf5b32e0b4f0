"""Pictures made larger or smaller, and channels turned into places."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ....attributes import integer, integers, text
from ...file.model import Array
from ..parameters import known
from ..sites import Form, Site
from ..walk import Walk
from ..windows import picture
from .operator import INT8, INT8_AND_16, Operator

Variant = tuple[bool, bool]
"""halfPixelCenters and alignCorners."""
VARIANTS: Final[tuple[Variant, ...]] = ((False, False), (True, False), (False, True))
"""Kernels refuse both together."""
COORDINATES: Final = frozenset(
    {"asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric", "tf_half_pixel_for_nn", "half_pixel"}
)
MOST_OFF: Final = 1e-4
"""How far, in pixels, a place may lie from where the graph has it: rounding of float32."""


@dataclass(frozen=True)
class Axis:
    """Height or width: from what size to what size, by what factor the graph says."""

    size: int
    out: int
    scale: float


def resize(walk: Walk, site: Site) -> None:
    """RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR; GATHER where no variant of them picks the places that the graph does.

    Not: cubic; antialias; other axes than height and width; linear coordinates that no variant has.
    """
    node, mode = site.node, text(site.node, "mode", "nearest")
    smooth = integer(node, "antialias", 0)
    if mode not in {"nearest", "linear", "bilinear"} or smooth:
        walk.refuse(node, f"its mode is {mode!r}{' with antialias' if smooth else ''}", "use nearest or linear")
    axes = _axes(walk, site)
    exact = mode != "nearest" and site.kind == "int16"  # its kernel counts places in 1/1024: far more than a step
    x, order = picture(walk, site.in_float if exact else site)
    wanted = [_places(walk, site, axis) for axis in axes]
    if all(axis.size == axis.out for axis in axes) and all(np.array_equal(w, np.arange(len(w))) for w in wanted):
        walk.finish(site, x, order)
        return
    y = _nearest(walk, site, x, axes, wanted) if mode == "nearest" else _linear(walk, site, x, axes, wanted)
    walk.finish(site, y, order)


def _nearest(walk: Walk, site: Site, x: int, axes: list[Axis], wanted: list[Array]) -> int:
    chosen = [_rounded(site, axis, places) for axis, places in zip(axes, wanted, strict=True)]
    for variant in VARIANTS:
        if all(np.array_equal(one, _nearest_of_kernel(axis, *variant)) for one, axis in zip(chosen, axes, strict=True)):
            return _resized(walk, site, "RESIZE_NEAREST_NEIGHBOR", x, axes, variant)
    for place, indices in zip((1, 2), chosen, strict=True):
        memory = walk.shape_of(x)
        if not np.array_equal(indices, np.arange(memory[place])):
            y = walk.like(x, (*memory[:place], len(indices), *memory[place + 1 :]), f"{site.results[0].name}_places")
            walk.emit("GATHER", (x, walk.draft.constant("places", indices.astype(np.int32))), (y,), axis=place)
            x = y
    return x


def _linear(walk: Walk, site: Site, x: int, axes: list[Axis], wanted: list[Array]) -> int:
    held = [np.clip(places, 0, axis.size - 1) for axis, places in zip(axes, wanted, strict=True)]
    suited = [
        variant
        for variant in VARIANTS
        if all(
            np.abs(one - _linear_of_kernel(axis, *variant)).max() < MOST_OFF
            for one, axis in zip(held, axes, strict=True)
        )
    ]
    if not suited:
        mode = text(site.node, "coordinate_transformation_mode", "half_pixel")
        walk.refuse(
            site.node,
            f"TFLite does not count pixels so ({mode}, scales {[axis.scale for axis in axes]})",
            "resize to whole sizes with half_pixel, align_corners or asymmetric",
        )
    return _resized(walk, site, "RESIZE_BILINEAR", x, axes, suited[0])


def _resized(walk: Walk, site: Site, kind: str, x: int, axes: list[Axis], variant: Variant) -> int:
    batch, _, _, channels = walk.shape_of(x)
    sizes = (axes[0].out, axes[1].out)
    y = walk.like(x, (batch, *sizes, channels), site.results[0].name or "resized")
    constant = walk.draft.constant("sizes", np.asarray(sizes, np.int32))
    walk.emit(kind, (x, constant), (y,), halfPixelCenters=variant[0], alignCorners=variant[1])
    return y


# What kernels compute (tensorflow/lite/kernels/internal/reference/resize_*.h), in float32 as they do.


def _step(axis: Axis, *, corners: bool) -> np.float32:
    if corners and axis.out > 1:
        return np.float32(axis.size - 1) / np.float32(axis.out - 1)
    return np.float32(axis.size) / np.float32(axis.out)


def _nearest_of_kernel(axis: Axis, half: bool, corners: bool) -> Array:
    offset = np.float32(0.5 if half else 0.0)
    places = (np.arange(axis.out, dtype=np.float32) + offset) * _step(axis, corners=corners)
    found = np.floor(places + np.float32(0.5)) if corners else np.floor(places)
    held: Array = np.clip(found, 0, axis.size - 1).astype(np.int64)
    return held


def _linear_of_kernel(axis: Axis, half: bool, corners: bool) -> Array:
    step, places = _step(axis, corners=corners), np.arange(axis.out, dtype=np.float32)
    found: Array = (places + np.float32(0.5)) * step - np.float32(0.5) if half else places * step
    held: Array = np.clip(found, 0, axis.size - 1)
    return held


# What the graph says (ONNX operators, Resize).


def _axes(walk: Walk, site: Site) -> list[Axis]:
    """Height and width; a sequence has a height of 1."""
    shape = walk.shape(site.input(0))
    out, scales = _sizes(walk, site, shape)
    if len(shape) not in {3, 4} or out[:2] != shape[:2] or min(out) < 1:
        walk.refuse(site.node, f"it makes {out} of {shape}", "resize height and width of (N, C, H, W) only")
    found = [Axis(*each) for each in zip(shape[2:], out[2:], scales[2:], strict=True)]
    return found if len(found) == 2 else [Axis(1, 1, 1.0), *found]


def _sizes(walk: Walk, site: Site, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Sizes and scales of all axes."""
    node = site.node
    old = node.op_type == "Upsample" or walk.opset < 11
    factors = known(walk, site, 1 if old else 2, "scales")
    sizes = None if old else known(walk, site, 3, "sizes")
    axes = [axis % len(shape) for axis in integers(node, "axes") or range(len(shape))]
    out, scales = list(shape), [1.0] * len(shape)
    if sizes is not None and sizes.size:
        ratio = [int(size) / shape[axis] for size, axis in zip(sizes, axes, strict=True)]
        wanted = [int(size) for size in sizes]
        policy = text(node, "keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = [min(ratio) if policy == "not_larger" else max(ratio)] * len(ratio)
            wanted = [math.floor(each * shape[axis] + 0.5) for each, axis in zip(ratio, axes, strict=True)]
    elif factors is not None and factors.size:
        ratio = [float(each) for each in factors.reshape(-1)]
        wanted = [math.floor(shape[axis] * each) for each, axis in zip(ratio, axes, strict=True)]
    else:
        walk.refuse(node, "it has neither scales nor sizes", "repair the export")
    for axis, size, each in zip(axes, wanted, ratio, strict=True):
        out[axis], scales[axis] = size, each
    return tuple(out), tuple(scales)


def _places(walk: Walk, site: Site, axis: Axis) -> Array:
    """Where the places of the result lie in the source."""
    old = site.node.op_type == "Upsample" or walk.opset < 11
    mode = "asymmetric" if old else text(site.node, "coordinate_transformation_mode", "half_pixel")
    if mode not in COORDINATES or (mode == "half_pixel_symmetric" and text(site.node, "mode", "nearest") == "nearest"):
        walk.refuse(site.node, f"its coordinates are {mode!r}", "use half_pixel, align_corners or asymmetric")
    index, scale = np.arange(axis.out, dtype=np.float32), np.float32(axis.scale)
    centre = (index + np.float32(0.5)) / scale
    match mode:
        case "asymmetric":
            return index / scale
        case "align_corners":
            return index * np.float32(axis.size - 1) / np.float32(max(axis.out - 1, 1))
        case "pytorch_half_pixel":
            return centre - np.float32(0.5) if axis.out > 1 else np.zeros(1, np.float32)
        case "half_pixel_symmetric":
            offset = np.float32(axis.size / 2 * (1 - axis.out / (axis.scale * axis.size)))
            return offset + centre - np.float32(0.5)
        case "tf_half_pixel_for_nn":
            return centre
        case _:
            return centre - np.float32(0.5)


def _rounded(site: Site, axis: Axis, places: Array) -> Array:
    old = site.node.op_type == "Upsample"
    match "floor" if old else text(site.node, "nearest_mode", "round_prefer_floor"):
        case "floor":
            found = np.floor(places)
        case "ceil":
            found = np.ceil(places)
        case "round_prefer_ceil":
            found = np.floor(places + np.float32(0.5))
        case _:
            found = np.ceil(places - np.float32(0.5))
    held: Array = np.clip(found, 0, axis.size - 1).astype(np.int64)
    return held


def depth_to_space(walk: Walk, site: Site) -> None:
    """DEPTH_TO_SPACE; GATHER of channels before it in CRD mode."""
    block = integer(site.node, "blocksize", 1)
    x, order = picture(walk, site)
    batch, height, width, channels = walk.shape_of(x)
    kept = channels // (block * block)
    if text(site.node, "mode", "DCR") == "CRD":
        wanted = np.arange(channels, dtype=np.int32).reshape(kept, block * block).T.reshape(-1)
        sorted_channels = walk.like(x, walk.shape_of(x), "channels")
        walk.emit("GATHER", (x, walk.draft.constant("channel_order", wanted)), (sorted_channels,), axis=3)
        x = sorted_channels
    y = walk.like(x, (batch, height * block, width * block, kept), site.results[0].name or "places")
    walk.emit("DEPTH_TO_SPACE", (x,), (y,), blockSize=block)
    walk.finish(site, y, order)


def space_to_depth(walk: Walk, site: Site) -> None:
    """SPACE_TO_DEPTH."""
    block = integer(site.node, "blocksize", 1)
    x, order = picture(walk, site)
    batch, height, width, channels = walk.shape_of(x)
    shape = (batch, height // block, width // block, channels * block * block)
    y = walk.like(x, shape, site.results[0].name or "depths")
    walk.emit("SPACE_TO_DEPTH", (x,), (y,), blockSize=block)
    walk.finish(site, y, order)


_MOVES = Form(integers=INT8_AND_16)

TABLE = {
    "Resize": Operator(resize, _MOVES),
    "Upsample": Operator(resize, _MOVES),
    "DepthToSpace": Operator(depth_to_space, Form(integers=INT8)),
    "SpaceToDepth": Operator(space_to_depth, Form(integers=INT8)),
}
