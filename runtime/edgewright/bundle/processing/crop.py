"""The middle of pictures: row (height - wanted) // 2 is the first, and columns likewise."""

from __future__ import annotations

import numpy as np

from ..steps import Crop
from ..tensor_spec import TensorSpec
from .bound import Array, Bound, ProcessingError, numpy_of, spec
from .pictures import height_axis, shape_of, sides


def bind(step: Crop, tensor: TensorSpec) -> Bound:
    """The crop for pictures of one size."""
    numpy_of(tensor)
    height, width, channels = sides(tensor, step.layout)
    if step.height > height or step.width > width:
        raise ProcessingError(
            f"{tensor.name!r} is {height} x {width} pixels; {step.height} x {step.width} cannot be cut out of it"
        )
    top, left = (height - step.height) // 2, (width - step.width) // 2
    result = spec(tensor, shape=shape_of(tensor.shape[0], step.height, step.width, channels, step.layout))
    part = (*(slice(None),) * height_axis(step.layout), slice(top, top + step.height), slice(left, left + step.width))

    def run(pictures: Array) -> tuple[Array, ...]:
        return (np.ascontiguousarray(pictures[part]),)

    return Bound(takes=(tensor.name,), gives=(result,), run=run)
