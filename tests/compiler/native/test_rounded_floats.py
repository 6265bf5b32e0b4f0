"""Float products that a plan rounds to integers: the epilogue stores bytes, in every family and by every tile."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.compiler.lower.native.expression import Accumulator, Expression, Scalar, call
from edgewright.compiler.lower.native.interpret import interpret_layer
from edgewright.compiler.lower.native.kernels.families import tiles_of
from edgewright.compiler.lower.native.net import Border, Convolution, Dense, Dtype, Epilogue, Tensor
from tests.compiler.native.single_layer import HERE, run_layer

RANGES: dict[Dtype, tuple[int, int]] = {"u8": (0, 255), "s8": (-128, 127)}


def rounded(dtype: Dtype) -> Epilogue:
    """round(sum / 0.05) + 3, held to the type's range."""
    low, high = RANGES[dtype]
    scaled: Expression = call("mul", Accumulator(), Scalar(20.0))
    shifted = call("iadd", call("to_s32_even", scaled), Scalar(3, "s32"))
    held = call("imin", call("imax", shifted, Scalar(low, "s32")), Scalar(high, "s32"))
    return Epilogue(held)


def layers(dtype: Dtype) -> dict[str, Convolution | Dense]:
    random = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    def dense(rows: int) -> Dense:
        x, y = Tensor("x", (rows, 20)), Tensor("y", (rows, 24), dtype)
        return Dense(x=x, y=y, weight=weight(24, 20), epilogue=rounded(dtype))

    bordered = Tensor("x", (2, 7, 6, 20), border=Border(1, 1, 1, 1))
    y = Tensor("y", (2, 7, 6, 20), dtype, Border(1, 0, 0, 1, 3.0))
    plain = Tensor("y", (2, 7, 6, 24), dtype)
    return {
        "direct": Convolution(x=bordered, y=plain, weight=weight(24, 3, 3, 20), top=1, left=1, epilogue=rounded(dtype)),
        "depthwise": Convolution(
            x=bordered, y=y, weight=weight(20, 3, 3, 1), top=1, left=1, groups=20, epilogue=rounded(dtype)
        ),
        "dense": dense(9),
        "gemv": dense(1),
    }


@pytest.mark.parametrize("dtype", ["u8", "s8"])
@pytest.mark.parametrize("name", ["direct", "depthwise", "dense", "gemv"])
def test_sums_are_rounded_where_they_are_stored(name: str, dtype: Dtype) -> None:
    layer = layers(dtype)[name]
    x = np.random.default_rng(1).normal(size=layer.x.shape).astype(np.float32)
    expected = interpret_layer(layer, {"x": x})["y"]
    tiles = tiles_of(layer, HERE)
    for tile in (tiles[0], tiles[-1]):
        found = run_layer(layer, {"x": x}, HERE, tile)["y"]
        assert found.dtype == expected.dtype
        # float32 sums may fall on the other side of a half
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
        assert (found != expected).mean() < 0.02
