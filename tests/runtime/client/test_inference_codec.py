"""Arrays survive the client's spelling, and no answer makes it do anything but read or refuse."""

from __future__ import annotations

import contextlib
import doctest
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgewright.runtime.client import BadAnswer, address, inference, retry
from edgewright.runtime.client.errors import AnswerTimeout, ServerRefused, Unreachable
from edgewright.runtime.client.inference import Options, read_answer, write_request
from edgewright.runtime.client.retry import Retry

ARRAYS = npst.arrays(
    st.sampled_from([np.bool_, np.uint8, np.int16, np.uint32, np.int64, np.float16, np.float32, np.float64]),
    npst.array_shapes(max_dims=3, max_side=4, min_side=0),
)
TEXTS = npst.arrays(np.object_, npst.array_shapes(max_dims=2, max_side=3), elements=st.binary(max_size=5))


def as_answer(inputs: dict[str, Any]) -> tuple[memoryview, memoryview]:
    """The request of an echo, turned into its answer."""
    head, tail = write_request(inputs, Options())
    told = {"model_name": "echo", "outputs": json.loads(head)["inputs"]}
    return memoryview(json.dumps(told).encode()), memoryview(b"".join(bytes(part) for part in tail))


@given(st.dictionaries(st.text(max_size=3), ARRAYS | TEXTS, max_size=4))
def test_arrays_survive(inputs: dict[str, Any]) -> None:
    found = read_answer(*as_answer(inputs)).outputs
    assert found.keys() == inputs.keys()
    for name, array in inputs.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_texts_are_sent_as_utf8() -> None:
    found = read_answer(*as_answer({"x": np.array(["grün", ""])}))["x"]
    assert found.tolist() == ["grün".encode(), b""]


@given(st.data(), st.binary(max_size=40))
def test_damaged_answers_are_refused_or_read(data: st.DataObject, tail: bytes) -> None:
    head, _ = as_answer({"a": np.zeros((2, 2), np.float32), "b": np.array([b"x"], np.object_)})
    damaged = bytearray(head)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadAnswer):
        read_answer(memoryview(damaged), memoryview(tail))


def test_null_is_nan() -> None:
    text = b'{"model_name":"m","outputs":[{"name":"o","shape":[2],"datatype":"FP32","data":[null,1]}]}'
    np.testing.assert_array_equal(read_answer(memoryview(text), memoryview(b""))["o"], [np.nan, 1])


@pytest.mark.parametrize(
    ("error", "repeatable", "reused", "left_s", "expected"),
    [
        (Unreachable("", sent=False), False, False, None, 0.05),
        (Unreachable("", sent=False), False, False, 0.01, None),
        (Unreachable("", sent=True), True, False, None, None),
        (Unreachable("", sent=True), True, True, None, 0.0),
        (Unreachable("", sent=True), False, True, None, None),
        (ServerRefused(503, "", 1.0), False, False, None, 1.0),
        (ServerRefused(503, "", 1.0), False, False, 0.5, None),
        (ServerRefused(503, "", 60.0), False, False, None, None),
        (ServerRefused(503, ""), True, True, None, None),
        (ServerRefused(429, "", 0.0), True, True, None, None),
        (AnswerTimeout(""), True, True, None, None),
    ],
)
def test_what_is_tried_again(
    error: Any, repeatable: bool, reused: bool, left_s: float | None, expected: float | None
) -> None:
    assert Retry().pause_s(1, error, repeatable=repeatable, reused=reused, left_s=left_s) == expected
    assert Retry().pause_s(3, error, repeatable=repeatable, reused=reused, left_s=left_s) is None


@pytest.mark.parametrize("module", [address, inference, retry])
def test_examples_in_docstrings(module: Any) -> None:
    outcome = doctest.testmod(module)
    assert outcome.failed == 0
    assert outcome.attempted > 0
