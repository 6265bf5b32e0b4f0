"""Sums of window records do not depend on duplicates, order or how they were put together."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.core.sums.windows import ObservedWindow, Totals, latest, merge, total
from edgewright.runtime.telemetry.records import WindowRecord


def record(**changes: object) -> WindowRecord:
    values: dict[str, object] = {
        "model": "m",
        "version": "1",
        "bundle": "sha256:b",
        "reference": "sha256:r",
        "window_start_s": 0,
        "window_s": 60,
        "boot": "b",
        "incarnation": "i",
        "seq": 1,
        "closed": False,
        "requests": 1,
        "failures": 0,
        "rows": 1,
        "latency_us_sum": 5,
        "latency": (1, 0),
        "histograms": ((1, 0),),
    }
    return msgspec.convert(values | changes, WindowRecord)


windows = st.builds(
    lambda device, start, boot, seq, rows: ObservedWindow(
        device=device,
        record=record(window_start_s=start * 60, boot=boot, seq=seq, rows=rows, requests=rows, histograms=((rows, 0),)),
    ),
    st.sampled_from(["a", "b"]),
    st.integers(0, 2),
    st.sampled_from(["x", "y"]),
    st.integers(1, 4),
    st.integers(0, 50),
)
sets = st.lists(windows, max_size=12)


@given(one=sets, two=sets, three=sets)
def test_merge_is_associative_commutative_and_idempotent(
    one: list[ObservedWindow], two: list[ObservedWindow], three: list[ObservedWindow]
) -> None:
    a, b, c = latest(one), latest(two), latest(three)
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a


@given(seen=sets, seed=st.integers(0, 1000))
def test_duplicates_and_reordering_cannot_change_a_sum(seen: list[ObservedWindow], seed: int) -> None:
    again = seen * 2
    random.Random(seed).shuffle(again)
    assert total(latest(again)) == total(latest(seen))


def test_a_later_record_replaces_an_earlier_one_of_its_key() -> None:
    early = ObservedWindow(device="a", record=record(seq=2, rows=10, histograms=((10, 0),)))
    late = ObservedWindow(device="a", record=record(seq=7, rows=30, histograms=((25, 5),)))
    other = ObservedWindow(device="b", record=record(rows=1))
    assert total(latest([late, early, other])) == Totals(
        devices=2, windows=2, requests=2, failures=0, rows=31, latency_us_sum=10, latency=(2, 0), histograms=((26, 5),)
    )


def test_a_record_of_another_shape_is_left_out() -> None:
    good = [ObservedWindow(device=name, record=record()) for name in ("a", "b")]
    odd = ObservedWindow(device="c", record=record(histograms=((1, 0, 0), (4,))))
    assert total(latest([odd, *good])) == total(latest(good))


def test_nothing_adds_up_to_nothing() -> None:
    assert total({}) == Totals()
