"""What reads many lists of one kind reads each as it is read alone, and takes none that would be refused."""

from __future__ import annotations

import gc
import itertools
import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.json_lists import MISFITS, _flat_decoder, from_json, list_reader

SHAPES = st.lists(st.sampled_from([0, 1, 1, 1, 2, 3]), min_size=1, max_size=4).map(tuple)
SPACES = st.sampled_from([", ", ",", " , "])
DATATYPES = st.sampled_from(["FP32", "FP64", "INT8", "UINT64", "BOOL"])
WORDS = st.sampled_from([b"", b"[", b"]", b"], [", b"],[", b", ", b",", b" ", b"1", b'"', b"[]"])


def nested(shape: tuple[int, ...], numbers: Any) -> Any:
    if not shape:
        return next(numbers)
    return [nested(shape[1:], numbers) for _ in range(shape[0])]


def text_of(shape: tuple[int, ...], datatype: str, comma: str) -> bytes:
    numbers = itertools.cycle([True, False]) if datatype == "BOOL" else itertools.cycle(range(1, 100))
    return json.dumps(nested(shape, numbers), separators=(comma, ":")).encode()


def check(text: bytes, datatype: str, shape: tuple[int, ...]) -> bool:
    """Whether the text is taken; what is taken is what `from_json` makes of it."""
    try:
        found = list_reader(datatype, shape, "x", 16)(text)
    except MISFITS:
        return False
    expected = from_json(text, datatype, shape, "x", 16)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
    return True


@settings(max_examples=300)
@given(SHAPES, DATATYPES, SPACES)
def test_a_list_of_the_shape_is_taken(shape: tuple[int, ...], datatype: str, comma: str) -> None:
    if 0 not in shape:
        assert check(text_of(shape, datatype, comma), datatype, shape)
    assert check(text_of((math.prod(shape),), datatype, comma), datatype, shape)


@settings(max_examples=600)
@given(SHAPES, SHAPES, SPACES, st.lists(st.tuples(st.integers(0, 60), WORDS, st.integers(0, 3)), max_size=2))
@example((2, 2), (4, 1), ", ", [])
@example((1, 0, 1), (1, 1, 0), ", ", [])
@example((3, 1), (2, 1), ", ", [(6, b", 5", 0)])
def test_a_list_of_another_shape_or_a_damaged_one_is_not_taken_for_more_than_it_is(
    shape: tuple[int, ...], given: tuple[int, ...], comma: str, damages: list[tuple[int, bytes, int]]
) -> None:
    text = text_of(given, "FP32", comma)
    for at, word, taken in damages:
        text = text[: 1 + at % len(text)] + word + text[1 + at % len(text) + taken :]
    check(text if text.endswith(b"]") else text + b"]", "FP32", shape)


@pytest.mark.parametrize("text", [b"[[1], [2, 3]]", b"[[1, 2], [3]]", b"[[1], [2], [3, 4]]", b"[[1], [2], [3], []]"])
def test_lists_of_unequal_length_are_no_array(text: bytes) -> None:
    for shape in ((3, 1), (4, 1), (2, 2)):
        assert not check(text, "FP32", shape)


@pytest.mark.parametrize("text", [b"[" + b"1," * 50_000 + b"1]", b"[[" + b"1," * 50_000 + b"1]]"])
def test_numbers_that_nobody_announced_are_not_read(text: bytes) -> None:
    assert not check(text, "FP32", (1, 50_000))
    assert check(text, "FP32", (1, 50_001))


def test_a_list_deeper_than_is_allowed_is_refused() -> None:
    with pytest.raises(MISFITS):
        list_reader("FP32", (1, 1, 1), "x", 2)(b"[[[1]]]")


def test_a_number_too_large_is_refused_and_not_infinite() -> None:
    assert not check(b"[1e39]", "FP32", (1,))
    assert not check(b"[300]", "INT8", (1,))
    with pytest.raises(Refusal, match="does not fit"):
        from_json(b"[1e39]", "FP32", (1,), "x", 16)


@pytest.mark.parametrize(
    "text", [b"[1, 2]", b"[[1, 2]]", b"[1]", b"[1, 2, 3]", b"[1, null]", b"[[1], [2]]", b"[[1, 2], []]"]
)
def test_a_reader_says_the_same_however_often_it_has_read(text: bytes) -> None:
    """The first few lists are read by a type of no length, the others by one that was made for them."""
    reader = list_reader("FP32", (1, 2), "x", 16)
    ends = []
    for _ in range(8):
        try:
            ends.append(reader(text).tolist())
        except MISFITS:
            ends.append(None)
    assert ends == [[[1.0, 2.0]] if text in {b"[1, 2]", b"[[1, 2]]"} else None] * 8


def decoders() -> int:
    # `type`, as `isinstance` asks whatever else lives here for its class, and some answer with a warning.
    return sum(type(each) is msgspec.json.Decoder for each in gc.get_objects())


def test_readers_of_many_shapes_take_little_memory_together() -> None:
    """A type with a place for each of a thousand numbers takes 14 kB: those of thousands of readers would be much."""
    before, most = decoders(), _flat_decoder.cache_info().maxsize
    assert most is not None
    readers = [list_reader("FP32", (count,), "x", 16) for count in range(1, most + 200)]
    for _ in range(5):
        for count, reader in enumerate(readers, 1):
            assert len(reader(b"[" + b"1," * (count - 1) + b"1]")) == count
    assert decoders() - before <= most


def test_shapes_that_come_once_or_twice_have_no_type_of_their_own() -> None:
    before = _flat_decoder.cache_info().misses
    for count in range(700, 750):
        reader = list_reader("INT16", (count,), "x", 16)
        for _ in range(2):
            reader(b"[" + b"1," * (count - 1) + b"1]")
    assert _flat_decoder.cache_info().misses - before <= 1
