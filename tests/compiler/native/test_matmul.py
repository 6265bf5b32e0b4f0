"""Products of two tensors against float64, and their bits over tiles, machines and units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.expression import Accumulator, Beside, Row, Scalar, call
from edgewright.compiler.lower.native.kernel import Tile
from edgewright.compiler.lower.native.net import Array, Epilogue, MatMul, Tensor
from tests.compiler.native.every_tile_of import FUSED, Case, outputs_of
from tests.compiler.native.single_layer import HERE, PLAIN

EXAMPLES = settings(
    max_examples=3, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
"""Not shrunk: every step compiles."""


@dataclass(frozen=True)
class Shape:
    """A layer, in few words: Hypothesis prints what it draws."""

    leading: tuple[int, ...]
    shared_a: tuple[bool, ...]
    """Leading axes along which all matrices of the product have the same left side."""
    shared_b: tuple[bool, ...]
    rows: int
    depth: int
    channels: int
    a_transposed: bool
    b_transposed: bool
    epilogue: bool
    seed: int = 0

    def case(self) -> Case:
        """With contents."""
        random = np.random.default_rng(self.seed)
        a = Tensor("a", (*_shared(self.leading, self.shared_a), *_turned(self.rows, self.depth, self.a_transposed)))
        b = Tensor("b", (*_shared(self.leading, self.shared_b), *_turned(self.depth, self.channels, self.b_transposed)))
        y = Tensor("y", (*self.leading, self.rows, self.channels))
        beside = Tensor("beside", y.shape)
        scaled = call("mul", call("add", Accumulator(), Row(0)), Scalar(0.5))
        rows = (random.normal(size=self.channels).astype(np.float32),)
        epilogue = Epilogue(call("add", scaled, Beside(0)), rows, (beside,)) if self.epilogue else Epilogue()
        layer = MatMul(a=a, b=b, y=y, a_transposed=self.a_transposed, b_transposed=self.b_transposed, epilogue=epilogue)
        return layer, {tensor.name: random.normal(size=tensor.shape).astype(np.float32) for tensor in layer.inputs}


def _shared(leading: tuple[int, ...], shared: tuple[bool, ...]) -> tuple[int, ...]:
    return tuple(1 if one else extent for extent, one in zip(leading, shared, strict=False))


def _turned(rows: int, columns: int, transposed: bool) -> tuple[int, int]:
    return (columns, rows) if transposed else (rows, columns)


SIZES = st.one_of(st.integers(1, 40), st.sampled_from([64, 128]))
FLAGS = st.tuples(st.booleans(), st.booleans(), st.booleans())
SHAPES = st.lists(
    st.builds(
        Shape,
        leading=st.lists(st.integers(1, 3), max_size=3).map(tuple),
        shared_a=FLAGS,
        shared_b=FLAGS,
        rows=SIZES,
        depth=st.one_of(SIZES, st.sampled_from([129, 300])),
        channels=SIZES,
        a_transposed=st.booleans(),
        b_transposed=st.booleans(),
        epilogue=st.booleans(),
        seed=st.integers(0, 1000),
    ),
    min_size=4,
    max_size=4,
)


def reference(case: Case) -> Array:
    layer, arrays = case
    assert isinstance(layer, MatMul)
    a, b = arrays["a"].astype(np.float64), arrays["b"].astype(np.float64)
    found = (a.swapaxes(-1, -2) if layer.a_transposed else a) @ (b.swapaxes(-1, -2) if layer.b_transposed else b)
    return (found + layer.epilogue.rows[0]) * 0.5 + arrays["beside"] if layer.epilogue.rows else found


def assert_right(case: Case, outputs: dict[Tile, Array], first: Array) -> None:
    expected = reference(case)
    for tile, output in outputs.items():
        np.testing.assert_array_equal(output, first, err_msg=str(tile))
    assert np.abs(first - expected).max() <= 2e-6 * max(np.abs(expected).max(), 1.0)


@EXAMPLES
@given(SHAPES)
def test_all_tiles_and_machines_give_the_same_right_bits(shapes: list[Shape]) -> None:
    drawn = [shape.case() for shape in shapes]
    found = [outputs_of(drawn, machine) for machine in FUSED]
    for index, case in enumerate(drawn):
        for outputs in found:
            assert_right(case, outputs[index], next(iter(found[0][index].values())))


@EXAMPLES
@given(SHAPES)
def test_without_fused_multiply_add_and_unit_by_unit_answers_are_right_too(shapes: list[Shape]) -> None:
    drawn = [shape.case() for shape in shapes]
    for case, outputs in zip(drawn, outputs_of(drawn, PLAIN, unit_by_unit=True), strict=True):
        assert_right(case, outputs, next(iter(outputs.values())))


def test_attention_as_encoders_have_it() -> None:
    every = (False, False, False)
    scores = Shape((1, 12), every, every, 128, 32, 128, False, True, False)
    context = Shape((1, 12), every, every, 128, 128, 32, False, False, False)
    drawn = [scores.case(), context.case()]
    for case, outputs in zip(drawn, outputs_of(drawn, HERE), strict=True):
        assert_right(case, outputs, next(iter(outputs.values())))
