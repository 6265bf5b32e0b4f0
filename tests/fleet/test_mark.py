"""How far a spool has arrived must not depend on order or repetition."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.store.mark import MAX_RANGES_AHEAD, Mark, advance

RANGES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda p: (p[0], p[0] + p[1])), max_size=30)


def after(ranges: list[tuple[int, int]]) -> Mark:
    return reduce(lambda mark, found: advance(mark, *found), ranges, Mark())


@given(RANGES, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(ranges: list[tuple[int, int]], random: object) -> None:
    shuffled = ranges + ranges[::2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert after(shuffled) == after(ranges)


@given(RANGES)
def test_the_mark_is_the_end_of_what_is_there_without_a_hole(ranges: list[tuple[int, int]]) -> None:
    there = {0} | {seq for first, last in ranges for seq in range(first, last + 1)}
    expected = next(seq for seq in range(100) if seq + 1 not in there)
    mark = after(ranges)
    assert mark.upto == expected
    ahead = {seq for first, last in mark.ahead for seq in range(first, last + 1)}
    assert ahead == {seq for seq in there if seq > expected}


def test_an_empty_run_changes_nothing() -> None:
    assert advance(Mark(upto=4), 9, 8) == Mark(upto=4)


def test_a_flood_of_holes_is_bounded() -> None:
    mark = after([(n, n) for n in range(2, 1000, 2)])
    assert len(mark.ahead) == MAX_RANGES_AHEAD
    assert mark.upto == 0
