"""Statistics are a function of the values: neither order nor batches have a say. And they survive being written."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edgewright.compiler.quantize.calibration.channels import ChannelCollector
from edgewright.compiler.quantize.calibration.exact_sum import ExactSum
from edgewright.compiler.quantize.calibration.statistics import (
    MAX_BINS,
    ChannelStatistics,
    Histogram,
    Statistics,
    TensorStatistics,
)
from edgewright.compiler.quantize.calibration.statistics_file import MAX_BYTES, decode, encode

Floats = NDArray[np.float32]

anything = st.floats(width=32)  # NaN, infinities and denormals included
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(-100, 100, width=32)
vectors = hnp.arrays(np.float32, st.integers(0, 40), elements=st.one_of(anything, moderate))


@st.composite
def chunkings(draw: st.DrawFn, length: int) -> list[slice]:
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=4)))
    return [slice(start, end) for start, end in zip([0, *cuts], [*cuts, length], strict=True)]


def same(left: TensorStatistics, right: TensorStatistics) -> bool:
    return encode(Statistics(1, {"t": left}, {})) == encode(Statistics(1, {"t": right}, {}))


@given(vectors, st.data())
@settings(max_examples=300, deadline=None)
def test_neither_order_nor_batches_change_a_tensor(values: Floats, data: st.DataObject) -> None:
    shuffled = values[np.array(data.draw(st.permutations(range(len(values)))), dtype=int)]
    parts = [TensorStatistics.of(shuffled[part]) for part in data.draw(chunkings(len(values)))]
    merged = TensorStatistics()
    for part in data.draw(st.permutations(parts)):
        merged = merged.merged(part)
    assert same(merged, TensorStatistics.of(values))


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=st.one_of(finite, moderate)))
@settings(max_examples=300, deadline=None)
def test_every_value_is_in_its_bin(values: Floats) -> None:
    found = Histogram.of(values)
    width = Fraction(2) ** found.exponent
    expected: dict[int, int] = {}
    for value in values.tolist():
        index = math.floor(Fraction(value) / width)
        expected[index] = expected.get(index, 0) + 1
    assert {found.first + i: int(n) for i, n in enumerate(found.counts) if n} == expected
    assert found.counts[0]
    assert found.counts[-1]
    assert len(found.counts) <= MAX_BINS


@pytest.mark.parametrize("scale", [1e-38, 1e-3, 1.0, 1e38])
def test_the_range_is_spread_over_many_bins(scale: float) -> None:
    found = Histogram.of(np.linspace(-1, 2, 30_000, dtype=np.float32) * np.float32(scale))
    assert MAX_BINS / 2 < len(found.counts) <= MAX_BINS


@pytest.mark.parametrize(
    ("values", "low", "high", "not_finite", "counted"),
    [
        (np.float32(3).reshape(()), 3, 3, 0, 1),
        (np.zeros((0, 4), np.float32), 0, 0, 0, 0),
        (np.zeros((2, 3), np.float32), 0, 0, 0, 6),
        (np.array([-0.0], np.float32), 0, 0, 0, 1),
        (np.array([1e-45, -1e-45], np.float32), -math.ldexp(1, -149), math.ldexp(1, -149), 0, 2),
        (np.array([3e38, -3e38], np.float32), np.float32(-3e38), np.float32(3e38), 0, 2),
        (np.array([np.nan, np.inf, -np.inf, 2], np.float32), 2, 2, 3, 1),
        (np.array([np.nan], np.float32), 0, 0, 1, 0),
    ],
)
def test_odd_tensors(values: Floats, low: float, high: float, not_finite: int, counted: int) -> None:
    found = TensorStatistics.of(values)
    assert (found.low, found.high, found.not_finite, found.histogram.total) == (low, high, not_finite, counted)
    assert math.copysign(1, found.low) == math.copysign(1, low)


def test_a_large_tensor_is_counted_whole() -> None:
    values = np.random.default_rng(0).normal(size=(300, 1000)).astype(np.float32)
    found = TensorStatistics.of(values).histogram
    edges = (np.arange(len(found.counts) + 1) + found.first) * 2.0**found.exponent
    assert found.counts.tolist() == np.histogram(values.astype(np.float64), edges)[0].tolist()


def collected(axis: int, parts: list[Floats]) -> ChannelStatistics:
    collector = ChannelCollector(axis)
    for part in parts:
        collector.add(part)
    return collector.finished()


@given(
    st.sampled_from([((0, 12), (1, 3), (1, 5)), ((0, 12), (1, 3))]).flatmap(
        lambda bounds: hnp.arrays(
            np.float32, st.tuples(*(st.integers(*bound) for bound in bounds)), elements=st.one_of(anything, moderate)
        )
    ),
    st.sampled_from([1, -1]),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_neither_order_nor_batches_change_a_channel(rows: Floats, axis: int, data: st.DataObject) -> None:
    shuffled = rows[np.array(data.draw(st.permutations(range(len(rows)))), dtype=int)]
    parts = [shuffled[part] for part in data.draw(chunkings(len(rows)))]
    whole = Statistics(1, {}, {("t", axis): collected(axis, [rows])})
    assert encode(whole) == encode(Statistics(1, {}, {("t", axis): collected(axis, parts)}))


@pytest.mark.parametrize(("axis", "others"), [(1, (0, 2, 3)), (-1, (0, 1, 2))])
def test_channels_are_those_of_numpy(axis: int, others: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).normal(3, 2, size=(70, 6, 40, 9)).astype(np.float32)
    found = collected(axis, [values[:50], values[50:]])
    assert found.low.tolist() == values.min(axis=others).tolist()
    assert found.high.tolist() == values.max(axis=others).tolist()
    np.testing.assert_allclose(found.mean, values.mean(axis=others, dtype=np.float64), rtol=1e-7)


def test_channels_leave_out_what_is_not_finite() -> None:
    values = np.array([[1, np.nan, np.nan], [np.inf, 4, -np.inf], [3, 6, np.nan]], np.float32)
    found = collected(-1, [values])
    assert (found.low.tolist(), found.high.tolist(), found.mean.tolist()) == ([1, 4, 0], [3, 6, 0], [2, 5, 0])


def test_a_mean_of_huge_values_does_not_overflow() -> None:
    assert collected(-1, [np.full((5, 1), 3e38, np.float32)]).mean == pytest.approx(3e38)


def test_a_vector_is_one_row() -> None:
    assert collected(-1, [np.array([1, 2], np.float32), np.array([3, 2], np.float32)]).mean.tolist() == [2, 2]


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(2)), elements=finite))
@settings(max_examples=200, deadline=None)
def test_sums_are_exact(terms: Floats) -> None:
    found = ExactSum(2)
    found.add(terms.astype(np.float64))
    expected = [float(sum(map(Fraction, column)) / len(terms)) for column in terms.T.tolist()]
    assert found.divided_by(np.full(2, len(terms))).tolist() == expected


def some_statistics() -> Statistics:
    values = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    tensors = {"b": TensorStatistics.of(values), "a": TensorStatistics()}
    return Statistics(5, tensors, {("b", -1): collected(-1, [values]), ("b", 1): collected(1, [values])})


def test_statistics_come_back_as_they_were_written() -> None:
    statistics = some_statistics()
    found = decode(encode(statistics))
    assert encode(found) == encode(statistics)
    assert found.samples == 5
    assert found.tensors["b"].histogram.counts.tolist() == statistics.tensors["b"].histogram.counts.tolist()
    assert found.channels["b", -1].mean.tolist() == statistics.channels["b", -1].mean.tolist()


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="statistics"):
        decode(content)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    content = bytearray(encode(some_statistics()))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(content))
    except ValueError:
        return
    assert all(part.low <= part.high and (part.histogram.counts >= 0).all() for part in found.tensors.values())


def test_too_many_bytes_are_refused_unread() -> None:
    with pytest.raises(ValueError, match="at most"):
        decode(bytes(MAX_BYTES + 1))


def test_another_version_is_refused() -> None:
    content = encode(some_statistics())
    assert content[1] == 1
    with pytest.raises(ValueError, match="version 2"):
        decode(content[:1] + b"\x02" + content[2:])
