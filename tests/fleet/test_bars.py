"""Terminal histograms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.bars import BLOCKS, MOST_BARS, bars

counts = st.lists(st.integers(0, 2**63), max_size=200)


@given(counts)
def test_every_bin_that_holds_anything_is_seen(found: list[int]) -> None:
    picture = bars(found)
    assert len(picture) <= MOST_BARS
    assert set(picture) <= set(BLOCKS)
    assert (picture.strip() == "") == (sum(found) == 0)


@given(counts.filter(any))
def test_the_highest_is_full(found: list[int]) -> None:
    assert BLOCKS[-1] in bars(found)


def test_a_known_picture() -> None:
    assert bars([0, 1, 2, 4, 8]) == " ▁▂▄█"
