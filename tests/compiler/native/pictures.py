"""Random window layers over pictures, and what they compute in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import Phase
from hypothesis import strategies as st

from edgewright.compiler.lower.native.expression import Accumulator, Beside, Row, Scalar, call
from edgewright.compiler.lower.native.net import Array, Border, Convolution, Epilogue, Pool, Tensor

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""A failure is shown as it was found: every step of making it smaller would call the compiler."""


@dataclass(frozen=True)
class Geometry:
    """A window layer's sizes; the input is as large as the windows need, and up to two rows and columns larger."""

    batch: int
    out: tuple[int, int]
    window: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    channels: int
    padding: Border
    spare: tuple[int, int]

    def x(self, border_value: float = 0.0) -> Tensor:
        """The input, with exactly the border that its windows reach."""
        pads = ((self.padding.top, self.padding.bottom), (self.padding.left, self.padding.right))
        sizes = [
            (self.out[a] - 1) * self.strides[a]
            + (self.window[a] - 1) * self.dilations[a]
            + 1
            - sum(pads[a])
            + self.spare[a]
            for a in (0, 1)
        ]
        padding = self.padding
        border = Border(padding.top, padding.left, padding.bottom, padding.right, border_value)
        return Tensor("x", (self.batch, *sizes, self.channels), "f32", border)

    def y(self, channels: int, border: Border) -> Tensor:
        """The output."""
        return Tensor("y", (self.batch, *self.out, channels), "f32", border)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Windows up to 4 x 3 with strides up to 3 and dilations up to 2."""
    window = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    reach = [(window[a] - 1) * dilations[a] for a in (0, 1)]
    pads = [draw(st.integers(0, min(2, reach[a] // 2))) for a in (0, 1, 0, 1)] if min(reach) > 0 else [0, 0, 0, 0]
    return Geometry(
        batch=draw(st.integers(1, 2)),
        out=draw(st.tuples(st.integers(1, 7), st.integers(1, 7))),
        window=window,
        strides=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        dilations=dilations,
        channels=draw(st.sampled_from((2, 3, 4, 7, 8, 16, 20, 29, 48))),
        padding=Border(pads[0], pads[1], pads[2] if reach[0] else 0, pads[3] if reach[1] else 0),
        spare=draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
    )


def borders() -> st.SearchStrategy[Border]:
    """Around an output or a tensor beside."""
    return st.builds(Border, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))


def epilogue(y: Tensor, kind: str, border: Border, seed: int) -> Epilogue:
    """Nothing, a bias with ReLU6, or a bias and a residual."""
    if kind == "none":
        return Epilogue()
    rows = (np.random.default_rng(seed).normal(size=y.shape[-1]).astype(np.float32),)
    sum_ = call("add", Accumulator(), Row(0))
    if kind == "relu6":
        return Epilogue(call("min", call("max", sum_, Scalar(0.0)), Scalar(6.0)), rows)
    return Epilogue(call("add", sum_, Beside(0)), rows, (Tensor("r", y.shape, "f32", border),))


def finished(sums: Array, epilogue: Epilogue, kind: str, beside: Array | None) -> Array:
    """What `epilogue(…, kind, …)` makes of sums, in float64."""
    if kind == "none":
        return sums
    biased = sums + epilogue.rows[0].astype(np.float64)
    return np.clip(biased, 0, 6) if kind == "relu6" or beside is None else biased + beside


def windows(layer: Convolution | Pool, x: Array) -> Array:
    """Every window of an input with its border (float64): (N, OH, OW, KH, KW, C)."""
    size = layer.window if isinstance(layer, Pool) else layer.weight.shape[1:3]
    _, height, width, _ = layer.y.shape
    top, left = layer.x.border.top - layer.top, layer.x.border.left - layer.left
    rows = top + np.arange(height)[:, None] * layer.strides[0] + np.arange(size[0])[None] * layer.dilations[0]
    columns = left + np.arange(width)[:, None] * layer.strides[1] + np.arange(size[1])[None] * layer.dilations[1]
    found: Array = x[:, rows[:, None, :, None], columns[None, :, None, :]]
    return found
