"""Products on ARM, emulated: the bits of this machine, by every tile."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.compiler.lower.native.expression import Accumulator, Row, Scalar, call
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Border, Dense, Epilogue, MatMul, Tensor
from tests.compiler.native.cross import ARM7, ARM7_FMA, NEON, foreign
from tests.compiler.native.every_tile_of import Case, foreign_outputs_of, outputs_of
from tests.compiler.native.single_layer import HERE, PLAIN


def cases() -> list[Case]:
    """Dense layers with a border, of one position, with halves, and products of two tensors."""
    random = np.random.default_rng(0)
    bias = random.normal(size=27).astype(np.float32)
    relu = Epilogue(call("max", call("add", Accumulator(), Row(0)), Scalar(0.0)), (bias,))
    weight = random.normal(size=(27, 139)).astype(np.float32)
    half = weight.astype(np.float16)
    half[0, :4] = 6e-8, -0.0, 65504, 3.1e-5
    picture = Tensor("x", (1, 2, 7, 139), border=Border(1, 0, 0, 2)), Tensor("y", (1, 2, 7, 27), border=Border(0, 1))
    layers = (
        Dense(x=picture[0], y=picture[1], weight=weight, epilogue=relu),
        Dense(x=Tensor("x", (1, 139)), y=Tensor("y", (1, 27)), weight=half, epilogue=relu),
        Dense(x=Tensor("x", (9, 139)), y=Tensor("y", (9, 27)), weight=half),
        MatMul(a=Tensor("a", (2, 9, 139)), b=Tensor("b", (2, 30, 139)), y=Tensor("y", (2, 9, 30)), b_transposed=True),
        MatMul(a=Tensor("a", (30, 9)), b=Tensor("b", (2, 30, 40)), y=Tensor("y", (2, 9, 40)), a_transposed=True),
    )
    return [
        (layer, {tensor.name: random.normal(size=tensor.shape).astype(np.float32) for tensor in layer.inputs})
        for layer in layers
    ]


@pytest.mark.parametrize("machine", foreign(NEON, ARM7_FMA, ARM7))
def test_arm_gives_the_bits_of_this_machine(machine: Machine) -> None:
    drawn = cases()
    here = outputs_of(drawn, HERE if machine.fma else PLAIN)
    for expected, found in zip(here, foreign_outputs_of(drawn, machine), strict=True):
        for tile, output in found.items():
            np.testing.assert_array_equal(output, next(iter(expected.values())), err_msg=str(tile))
