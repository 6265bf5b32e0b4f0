"""Pictures in other sizes."""

from __future__ import annotations

from ..orders import CHANNELS_FIRST
from ..step import Step
from .row import Row


def resize_bilinear(step: Step) -> None:
    """Resize, linear."""
    _resize(step, mode="linear")


def resize_nearest_neighbor(step: Step) -> None:
    """Resize, nearest."""
    centred = step.flag("alignCorners") or step.flag("halfPixelCenters")
    _resize(step, mode="nearest", nearest_mode="round_prefer_ceil" if centred else "floor")


def _resize(step: Step, **attributes: str) -> None:
    _, height, width, _ = step.picture()
    sizes = step.numbers(1)
    if len(sizes) != 2 or min(sizes) < 1 or sizes != step.result_shape()[1:3] or not height * width:
        step.wrong(f"it makes {sizes} of {step.shape(0)}, its result has shape {step.result_shape()}")
    corners, centres = step.flag("alignCorners"), step.flag("halfPixelCenters")
    if corners and centres:
        step.wrong("it aligns corners and centres")
    mode = "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    x = step.real(0, CHANNELS_FIRST)
    y = step.node("Resize", x, "", "", step.row(*sizes), axes=(2, 3), coordinate_transformation_mode=mode, **attributes)
    step.finish(y, CHANNELS_FIRST)


TABLE = {
    "RESIZE_BILINEAR": Row(resize_bilinear, 2, 2),
    "RESIZE_NEAREST_NEIGHBOR": Row(resize_nearest_neighbor, 2, 2),
}
