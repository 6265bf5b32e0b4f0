"""What a worker and the server share: memory for tensors; and how long one waits before the next start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgewright.runtime.server.worker.arena import MAX_ARENA_BYTES, Arena, TensorsTooLarge, create_arena
from edgewright.runtime.server.worker.backoff import MAX_S, Backoff
from edgewright.runtime.server.worker.child import _answer
from edgewright.runtime.server.worker.messages import Ran, Run


def test_pauses_double_and_begin_anew_after_a_steady_minute() -> None:
    backoff = Backoff()
    assert [backoff.ended(1.0) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert max(backoff.ended(1.0) for _ in range(2000)) == MAX_S
    assert backoff.ended(61.0) == 0.1


class Mirror:
    """An engine whose outputs are parts of its inputs."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {"reversed": inputs["x"][::-1], "same": inputs["x"]}

    def close(self) -> None:
        """Nothing."""


def test_outputs_that_are_parts_of_the_inputs_do_not_overwrite_them() -> None:
    ours = create_arena()
    theirs = Arena(os.dup(ours.fd))
    try:
        x = np.arange(100_000, dtype=np.float32)
        places, end = ours.write({"x": x}, 0)
        answer = _answer(Mirror(), theirs, Run(ours.size_bytes, end, places))
        assert isinstance(answer, Ran)
        ours.follow(answer.arena_bytes)
        outputs = ours.read(answer.outputs, copy=True)
        np.testing.assert_array_equal(outputs["reversed"], x[::-1])
        np.testing.assert_array_equal(outputs["same"], x)
    finally:
        ours.close()
        theirs.close()


ARRAYS = st.lists(
    st.tuples(st.sampled_from(["u1", "<f4", "<i8", "<f2", "?"]), st.lists(st.integers(0, 40), max_size=3)), max_size=4
)


@given(ARRAYS, st.integers(0, 3))
def test_what_goes_through_the_arena_comes_out_the_same(arrays: list[tuple[str, list[int]]], step: int) -> None:
    random = np.random.default_rng(step)
    tensors = {
        f"t{place}": random.integers(0, 2, shape).astype(dtype)[..., :: step or 1] if shape else np.array(1, dtype)
        for place, (dtype, shape) in enumerate(arrays)
    }
    ours = create_arena()
    theirs = Arena(os.dup(ours.fd))
    try:
        places, end = ours.write(tensors, 0)
        theirs.follow(ours.size_bytes)
        seen = theirs.read(places, copy=True)
        back, _ = theirs.write(seen, end)
        ours.follow(theirs.size_bytes)
        for name, array in ours.read(back, copy=True).items():
            assert array.dtype == tensors[name].dtype
            np.testing.assert_array_equal(array, tensors[name])
    finally:
        ours.close()
        theirs.close()


def test_the_arena_is_bounded_and_cannot_be_cut_off() -> None:
    arena = create_arena()
    try:
        arena.write({"x": np.zeros(100, np.uint8)}, 0)
        with pytest.raises(TensorsTooLarge):
            arena.write({"x": np.zeros(1, np.uint8)}, MAX_ARENA_BYTES)
        with pytest.raises(TensorsTooLarge, match="any length"):
            arena.write({"x": np.array([b"text"], object)}, 0)
        with pytest.raises(TensorsTooLarge, match="other side"):
            arena.follow(arena.size_bytes * 2)
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, 0)
    finally:
        arena.close()
