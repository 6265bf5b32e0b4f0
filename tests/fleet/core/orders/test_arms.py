"""The draw of the arms: shares, blocks, and that nothing but the seed says who waits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.core.orders.arms import MAX_BLOCK, Drawn, draw, drawn_by_target, full_shape
from edgewright.fleet.core.rows import Assignment, Device, Rollout

from ..conftest import OLD, World


def rollout_of(fractions: list[float], *, seed: int = 7, targets: tuple[str, ...] = ("board",)) -> Rollout:
    policy = {"waves": [1, 2, "rest"], "control": {"fractions": fractions}}
    return World(policy, 0, targets=targets, seed=seed).ledger.rollout


def devices_of(number: int, targets: tuple[str, ...] = ("board",), *, new: int = 0) -> list[Device]:
    """Some devices; the first `new` of them run nothing of the model."""
    return [
        Device(
            id=f"dev-{place:05d}",
            target=targets[place % len(targets)],
            last_seen_s=0.0,
            version=None if place < new else "1",
            bundle=None if place < new else OLD,
            idle=True,
            reported_s=0.0,
        )
        for place in range(number)
    ]


def arms_of(rows: list[Assignment]) -> Counter[str]:
    return Counter(one.arm for one in rows)


def blocks_of(rows: list[Assignment]) -> dict[int, list[Assignment]]:
    found: dict[int, list[Assignment]] = {}
    for one in rows:
        if one.block >= 0:
            found.setdefault(one.block, []).append(one)
    return found


@pytest.mark.parametrize(
    ("fraction", "treated", "controls"),
    [(0.5, 1, 1), (0.1, 9, 1), (0.25, 3, 1), (0.3, 7, 3), (0.4, 3, 2), (0.33, 2, 1), (0.05, 19, 1), (0.001, 19, 1)],
)
def test_a_full_block_is_the_smallest_with_the_nearest_share(fraction: float, treated: int, controls: int) -> None:
    assert tuple(full_shape(fraction)) == (treated, controls)


@pytest.mark.parametrize("fraction", [0.5, 0.4, 0.33, 0.25, 0.1, 0.07, 0.05])
def test_as_many_wait_as_the_policy_says(fraction: float) -> None:
    rows = draw(rollout_of([fraction]), 1, devices_of(5000), 2000, 0, 0, now_s=1.0)
    arms = arms_of(rows)
    assert arms["treated"] == 2000
    assert arms["control"] == pytest.approx(2000 * fraction / (1 - fraction), abs=1)
    assert [one.position for one in rows] == list(range(len(rows)))
    assert {one.drawn_s for one in rows} == {1.0}


def test_a_first_wave_of_one_device_has_a_control_beside_it() -> None:
    for fraction in (0.5, 0.1):
        assert arms_of(draw(rollout_of([fraction]), 0, devices_of(6), 1, 0, 0, now_s=0.0)) == {
            "treated": 1,
            "control": 1,
        }


def test_who_has_nothing_to_be_compared_with_is_treated_outside_of_blocks() -> None:
    alone = draw(rollout_of([0.5]), 0, devices_of(1), 1, 0, 0, now_s=0.0)
    assert [(one.arm, one.block) for one in alone] == [("treated", -1)]
    rows = draw(rollout_of([0.5]), 1, devices_of(6, new=4), 6, 0, 0, now_s=0.0)
    assert [(one.arm, one.block) for one in rows if one.previous_bundle is None] == [("treated", -1)] * 4
    assert arms_of(rows) == {"treated": 5, "control": 1}


def test_without_a_share_nobody_waits() -> None:
    rows = draw(rollout_of([0]), 0, devices_of(100), 30, 5, 0, now_s=0.0)
    assert [(one.arm, one.block, one.position) for one in rows] == [("treated", -1, 5 + place) for place in range(30)]
    after_the_waves = draw(rollout_of([0.5]), 3, devices_of(10), 10, 0, 0, now_s=0.0)
    assert arms_of(after_the_waves) == {"treated": 10}


@given(
    seed=st.integers(0, 2**32),
    fraction=st.sampled_from([0.5, 0.3, 0.25, 0.1, 0.05]),
    count=st.integers(0, 60),
    new=st.integers(0, 10),
    pace=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    boards=st.integers(1, 3),
)
def test_every_way_of_drawing_keeps_the_rules(
    seed: int, fraction: float, count: int, new: int, pace: list[int], boards: int
) -> None:
    targets = ("a", "b", "c")[:boards]
    rollout = rollout_of([fraction], seed=seed, targets=targets)
    free = devices_of(count, targets, new=new)
    rows: list[Assignment] = []
    for step, wanted in enumerate(pace):  # as a pace would: some now, some later
        left = [one for one in free if one.id not in {row.device for row in rows}]
        block = max((row.block for row in rows), default=-1) + 1
        more = draw(rollout, 1, left, wanted, len(rows), block, now_s=float(step), drawn=drawn_by_target(rows))
        assert arms_of(more)["treated"] <= wanted
        assert arms_of(more)["treated"] == wanted or len(more) == len(left), "as many as wanted, or all there are"
        rows += more
    assert len({row.device for row in rows}) == len(rows)
    blocks = blocks_of(rows)
    assert sorted(blocks) == list(range(len(blocks)))
    for members in blocks.values():
        assert len(members) <= MAX_BLOCK
        assert arms_of(members)["treated"] >= 1
        assert arms_of(members)["control"] >= 1
        assert len({(row.target, row.drawn_s) for row in members}) == 1
        assert all(row.previous_bundle is not None for row in members)
    for drawn in drawn_by_target(rows).values():
        assert drawn.controls <= drawn.treated * fraction / (1 - fraction) + 1.5


def test_within_a_block_every_device_is_as_likely_to_wait() -> None:
    for fraction, slots in ((0.5, 2), (0.3, 10)):
        waits: Counter[int] = Counter()
        for seed in range(2000):
            rows = draw(rollout_of([fraction], seed=seed), 1, devices_of(slots), slots, 0, 0, now_s=0.0)
            waits.update(place for place, row in enumerate(rows) if row.arm == "control")
        expected = 2000 * fraction
        deviation = (2000 * fraction * (1 - fraction)) ** 0.5
        assert all(abs(waits[slot] - expected) < 4.5 * deviation for slot in range(slots)), waits


def test_the_draw_looks_at_nothing_but_seed_block_and_order() -> None:
    rollout = rollout_of([0.5])
    rows = draw(rollout, 1, devices_of(40), 20, 0, 0, now_s=0.0)
    changed = [msgspec.structs.replace(one, last_seen_s=9.0, orders_last_day=3) for one in devices_of(40)]
    later = draw(rollout, 1, changed, 20, 0, 0, now_s=5.0)
    assert [(one.device, one.arm) for one in rows] == [(one.device, one.arm) for one in later]


def test_what_was_drawn_before_counts() -> None:
    rollout = rollout_of([0.1])
    behind = draw(rollout, 1, devices_of(5), 4, 0, 0, now_s=0.0, drawn={"board": Drawn(treated=8, controls=0)})
    assert arms_of(behind) == {"treated": 4, "control": 1}
    ahead = draw(rollout, 1, devices_of(5), 4, 0, 0, now_s=0.0, drawn={"board": Drawn(treated=9, controls=2)})
    assert arms_of(ahead) == {"treated": 4}


def test_rows_say_what_the_device_ran() -> None:
    device: Any = msgspec.structs.replace(devices_of(1)[0], site="lyon", security_epoch=3)
    (row,) = draw(rollout_of([0]), 0, [device], 1, 0, 0, now_s=2.0)
    assert (row.previous_version, row.previous_bundle, row.previous_epoch, row.site) == ("1", OLD, 3, "lyon")
