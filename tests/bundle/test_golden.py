"""The self-test file: standard safetensors, the same bytes every time, and a comparison that cannot be fooled."""

import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from edgewright.bundle.errors import GoldenError, TooLargeError
from edgewright.bundle.golden import Golden, compare, decode_golden, encode_golden, read_golden, write_golden
from edgewright.bundle.golden_header import MAX_GOLDEN_BYTES, read_golden_header
from tests.bundle.samples import sample_golden


def golden(**outputs: object) -> Golden:
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in outputs.items()}
    return Golden(inputs={"x": np.ones(1)}, outputs=arrays, relative_tolerance=0.01, absolute_tolerance=0.1)


@settings(deadline=None, max_examples=60)
@given(
    array=hnp.arrays(
        st.sampled_from(["?", "u1", "i1", "<u2", ">i4", "<f2", "<f4", ">f8", "<i8", "<u8"]),
        hnp.array_shapes(min_dims=0, max_dims=4, max_side=4),
    )
)
def test_round_trip_and_the_safetensors_package_reads_it(array: np.ndarray) -> None:
    data = encode_golden(
        Golden(inputs={"x": array}, outputs={"y": array.T}, relative_tolerance=1e-3, absolute_tolerance=0.0)
    )
    back, theirs = decode_golden(data), load(data)
    for ours in (back.inputs["x"], theirs["input/x"]):
        assert ours.shape == array.shape
        assert ours.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert (back.relative_tolerance, back.absolute_tolerance) == (1e-3, 0.0)


def test_order_of_the_tensors_does_not_matter(tmp_path: Path) -> None:
    one, two = np.ones(3, np.float32), np.zeros((2, 2), np.int8)
    tolerances = {"relative_tolerance": 0.0, "absolute_tolerance": 0.0}
    first = Golden(inputs={"a": one, "b": two}, outputs={"c": two, "d": one}, **tolerances)
    second = Golden(inputs={"b": two, "a": one}, outputs={"d": one, "c": two}, **tolerances)
    assert encode_golden(first) == encode_golden(second)
    write_golden(tmp_path / "g", first)
    assert (tmp_path / "g").read_bytes() == encode_golden(second)
    assert compare(read_golden(tmp_path / "g"), first.outputs).passed


def test_a_file_of_the_safetensors_package_is_read() -> None:
    metadata = {"relative_tolerance": "0", "absolute_tolerance": "0.5"}
    tensors = {"input/x": np.arange(6.0).reshape(2, 3), "output/y": np.arange(2, dtype=np.int64)}
    back = decode_golden(save(tensors, metadata))
    np.testing.assert_array_equal(back.inputs["x"], tensors["input/x"])
    assert back.absolute_tolerance == 0.5


@pytest.mark.parametrize(
    "bad",
    [
        Golden(inputs={}, outputs={"y": np.ones(1)}, relative_tolerance=0, absolute_tolerance=0),
        Golden(inputs={"x": np.ones(1)}, outputs={}, relative_tolerance=0, absolute_tolerance=0),
        Golden(inputs={"x": np.ones(1)}, outputs={"y": np.ones((0, 2))}, relative_tolerance=0, absolute_tolerance=0),
        Golden(inputs={"x": np.ones(1)}, outputs={"y": np.ones(1)}, relative_tolerance=-1, absolute_tolerance=0),
        Golden(inputs={"x": np.ones(1)}, outputs={"y": np.ones(1)}, relative_tolerance=0, absolute_tolerance=math.nan),
        Golden(
            inputs={"x": np.array([{}], dtype=object)},
            outputs={"y": np.ones(1)},
            relative_tolerance=0,
            absolute_tolerance=0,
        ),
        Golden(
            inputs={"x": np.ones(1, ml_dtypes.bfloat16)},
            outputs={"y": np.ones(1)},
            relative_tolerance=0,
            absolute_tolerance=0,
        ),
    ],
)
def test_what_cannot_be_a_self_test_is_not_written(bad: Golden, tmp_path: Path) -> None:
    with pytest.raises(GoldenError):
        write_golden(tmp_path / "g", bad)
    assert list(tmp_path.iterdir()) == []


def test_size_is_bounded_before_anything_is_read() -> None:
    with pytest.raises(TooLargeError):
        read_golden_header(encode_golden(sample_golden())[:100], MAX_GOLDEN_BYTES + 1)


class TestCompare:
    def test_within_tolerance(self) -> None:
        verdict = compare(golden(y=[1.0, -100.0]), {"y": np.array([1.1, -101.0], np.float32)})
        assert verdict.passed
        assert verdict.worst_error == pytest.approx(1.0)

    def test_out_of_tolerance_names_the_place(self) -> None:
        verdict = compare(
            golden(a=[0.0], y=[[1.0, 2.0], [3.0, 4.0]]),
            {"a": np.array([0.05], np.float32), "y": np.array([[1.0, 2.0], [3.0, 4.2]], np.float32)},
        )
        assert not verdict.passed
        assert verdict.worst_output == "y"
        assert "[1, 1]" in verdict.detail
        assert "4.2" in verdict.detail

    def test_the_relative_part_scales_with_the_expected_value_not_with_the_answer(self) -> None:
        assert not compare(golden(y=[1.0]), {"y": np.array([1e30], np.float32)}).passed

    @pytest.mark.parametrize(
        ("expected", "got", "passed"),
        [
            (math.nan, math.nan, True),
            (1.0, math.nan, False),
            (math.nan, 1.0, False),
            (math.inf, math.inf, True),
            (math.inf, -math.inf, False),
            (math.inf, 1.0, False),
            (1.0, math.inf, False),
        ],
    )
    def test_not_finite(self, expected: float, got: float, passed: bool) -> None:
        assert compare(golden(y=[expected, 0.0]), {"y": np.array([got, 0.0], np.float32)}).passed is passed

    def test_zero_tolerance(self) -> None:
        exact = Golden(
            inputs={"x": np.ones(1)},
            outputs={"y": np.array([2**62, -128], np.int64)},
            relative_tolerance=0,
            absolute_tolerance=0,
        )
        assert compare(exact, {"y": np.array([2**62, -128])}).passed
        assert not compare(exact, {"y": np.array([2**62 + 1, -128])}).passed

    def test_the_difference_of_the_extremes_of_an_integer_type_is_not_zero(self) -> None:
        extremes = Golden(
            inputs={"x": np.ones(1)},
            outputs={"y": np.array([-128, 127], np.int8)},
            relative_tolerance=0,
            absolute_tolerance=100,
        )
        verdict = compare(extremes, {"y": np.array([127, -128], np.int8)})
        assert not verdict.passed
        assert verdict.worst_error == 255

    @pytest.mark.parametrize(
        ("outputs", "says"),
        [
            ({}, "missing"),
            ({"y": np.zeros((2, 1), np.float32)}, "expected float32[2]"),
            ({"y": np.zeros(2, np.float64)}, "expected float32[2]"),
        ],
    )
    def test_other_form(self, outputs: dict[str, np.ndarray], says: str) -> None:
        verdict = compare(golden(y=[0.0, 0.0]), outputs)
        assert not verdict.passed
        assert says in verdict.detail


TEXT_TOLERANCES = {"relative_tolerance": 0.0, "absolute_tolerance": 0.0}


def texts(*elements: object, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array.reshape(shape)


@given(st.lists(st.binary(max_size=20) | st.text(max_size=10), min_size=1, max_size=12))
def test_texts_make_the_round_trip(elements: list[bytes | str]) -> None:
    array = texts(*elements, shape=(1, -1, 1))
    numbers = np.ones(3, np.float32)
    data = encode_golden(Golden(inputs={"ä": array, "n": numbers}, outputs={"y": array}, **TEXT_TOLERANCES))
    back = decode_golden(data)
    wanted = [element if isinstance(element, bytes) else element.encode() for element in elements]
    assert back.inputs["ä"].shape == array.shape
    assert list(back.inputs["ä"].flat) == wanted
    assert back.inputs["n"].dtype == np.float32
    assert compare(back, {"y": array}).passed
    assert compare(back, {"y": texts(*wanted, shape=(1, -1, 1))}).passed
    assert load(data)["output/y"].dtype == np.uint8, "it is a safetensors file like any other"


@pytest.mark.parametrize(
    "got",
    [
        texts("a", "c"),
        texts("a", "b", "b"),
        texts("a", "b", shape=(2, 1)),
        texts("a", "b\0"),
        texts("A", "b"),
        texts("a", 2),
        np.zeros(2),
    ],
)
def test_other_texts_fail_the_test_whatever_is_tolerated(got: np.ndarray) -> None:
    generous = {"relative_tolerance": 9.0, "absolute_tolerance": 9.0}
    wanted = Golden(inputs={"x": np.ones(1)}, outputs={"y": texts("a", "b")}, **generous)
    verdict = compare(decode_golden(encode_golden(wanted)), {"y": got})
    assert not verdict.passed
    assert "'y'" in verdict.detail


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{\\"output/y\\":[2]}', b'{\\"output/y\\":[3]}'),
        (b'{\\"output/y\\":[2]}', b'{\\"output/z\\":[2]}'),
        (b'{\\"output/y\\":[2]}', b'{\\"output/y\\":[0]}'),
        (b'{\\"output/y\\":[2]}', b'{\\"output/y\\":[9]}'),
        (b'{\\"output/y\\":[2]}', b'{\\"output/y\\":"2"}'),
        (b"\x01\0\0\0a", b"\x02\0\0\0a"),
        (b"\x01\0\0\0a", b"\xff\xff\xff\xffa"),
    ],
)
def test_texts_that_are_none(old: bytes, new: bytes) -> None:
    whole = encode_golden(Golden(inputs={"x": np.ones(1)}, outputs={"y": texts("a", "b")}, **TEXT_TOLERANCES))
    assert whole.count(old) == 1
    with pytest.raises(GoldenError, match=r"golden\.safetensors: "):
        decode_golden(whole.replace(old, new))
