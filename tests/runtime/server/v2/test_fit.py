"""Shapes that a client announces fit what the model says, or are refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.pipeline import Signature
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.fit import check_input

SIZES = st.sampled_from([-1, 0, 1, 2, 3, 2**40, -(2**40)])


@given(st.lists(st.sampled_from([-1, 0, 1, 3]), max_size=4), st.lists(SIZES, max_size=4))
def test_what_fits_has_the_models_rank_and_sizes_and_nothing_negative(wanted: list[int], got: list[int]) -> None:
    spec = TensorSpec(name="x", datatype="FP32", shape=tuple(wanted))
    shape: tuple[int, ...] | None = None
    with contextlib.suppress(Refusal):
        shape = check_input(Signature("m", "1", {"x": spec}, {}), "x", "FP32", got, Limits())
    if shape is not None:
        assert len(shape) == len(wanted)
        assert all(size >= 0 and want in {-1, size} for size, want in zip(shape, wanted, strict=True))


def test_a_free_size_is_not_minus_one() -> None:
    spec = TensorSpec(name="x", datatype="FP32", shape=(-1, -1))
    with pytest.raises(Refusal, match="shape \\[-1, -1\\]"):
        check_input(Signature("m", "1", {"x": spec}, {}), "x", "FP32", (-1, -1), Limits())
