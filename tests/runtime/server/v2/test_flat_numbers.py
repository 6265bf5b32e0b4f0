"""The commonest request is read in one pass: it says what the long way says, and refuses what that refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.pipeline import Signature
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.plan import Plan, plan_request

SIGNATURE = Signature(
    "m",
    "1",
    {
        "a": TensorSpec(name="a", datatype="FP32", shape=(-1, 2)),
        "b": TensorSpec(name="b", datatype="FP64", shape=(-1,)),
    },
    {"y": TensorSpec(name="y", datatype="FP32", shape=(-1, 2))},
)
LONG = b" " * (64 * 1024)
"""Behind a text it makes it too long to be read in one pass, and changes nothing else."""

NUMBERS = st.lists(st.one_of(st.floats(-1e39, 1e39), st.integers(-(2**70), 2**70)), max_size=5)
DATA: st.SearchStrategy[Any] = st.one_of(NUMBERS, st.lists(NUMBERS, max_size=2), st.sampled_from([None, "x", [True]]))
PARAMETERS = st.sampled_from([None, {}, {"binary_data_size": 8}, {"priority": 1}, {"classification": 2}])
TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b", "c"]),
        "shape": st.lists(st.integers(-1, 3), max_size=3),
        "datatype": st.sampled_from(["FP32", "FP64", "INT8"]),
    },
    optional={"data": DATA, "parameters": PARAMETERS},
)
REQUESTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=3)},
    optional={"id": st.sampled_from(["one", None]), "parameters": PARAMETERS, "outputs": st.sampled_from([None, []])},
)


def read(text: bytes) -> Plan | tuple[int, str]:
    try:
        return plan_request(text, SIGNATURE, DEFAULT_LIMITS)
    except Refusal as refusal:
        return refusal.status, refusal.message


def same(one: Plan, other: Plan) -> bool:
    for mine, theirs in zip(one.inputs, other.inputs, strict=True):
        assert (mine.name, mine.datatype, mine.shape) == (theirs.name, theirs.datatype, theirs.shape)
        assert mine.array is not None
        assert theirs.array is not None
        np.testing.assert_array_equal(mine.array, theirs.array)
    return (one.rows, one.wanted, one.id, one.scheduling) == (other.rows, other.wanted, other.id, other.scheduling)


def check(text: bytes) -> None:
    short, long = read(text), read(text + LONG)
    if isinstance(short, Plan) and isinstance(long, Plan) and all(each.array is not None for each in short.inputs):
        assert same(short, long)
    elif isinstance(short, tuple):
        assert isinstance(long, tuple)
        assert short[0] == long[0]


@given(REQUESTS)
def test_both_ways_say_the_same(request: dict[str, Any]) -> None:
    check(json.dumps(request).encode())


@given(st.integers(1, 3), st.data())
def test_both_ways_give_the_same_numbers(rows: int, data: st.DataObject) -> None:
    numbers = st.floats(-1e38, 1e38)
    a = data.draw(st.lists(numbers, min_size=2 * rows, max_size=2 * rows))
    b = data.draw(st.lists(numbers, min_size=rows, max_size=rows))
    inputs = [
        {"name": "a", "shape": [rows, 2], "datatype": "FP32", "data": a},
        {"name": "b", "shape": [rows], "datatype": "FP64", "data": b},
    ]
    text = json.dumps({"inputs": inputs}).encode()
    plan = read(text)
    assert isinstance(plan, Plan)
    assert plan.rows == rows
    np.testing.assert_array_equal(plan.inputs[0].array, np.array(a, np.float32).reshape(rows, 2))
    np.testing.assert_array_equal(plan.inputs[1].array, np.array(b, np.float64))
    check(text)


@given(st.binary(max_size=30))
def test_both_ways_refuse_what_is_no_json(text: bytes) -> None:
    check(text)
