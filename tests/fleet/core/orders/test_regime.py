"""The right release to go back to: what ran before, or what fits the present data; never one below the floor."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.orders.regime import Return, Stay, way_back
from edgewright.fleet.core.policy.policy import Policy, policy_from
from edgewright.fleet.core.rows import Assignment, Device, ReleaseBundle
from edgewright.fleet.core.situation import GoodRelease

LAST_GOOD = Policy()
PREVIOUS = policy_from({"rollback": {"target": "PREVIOUS"}}, where="test")


def order(**changes: Any) -> Assignment:
    known: dict[str, Any] = {
        "device": "dev-1",
        "target": "pi",
        "wave": 0,
        "position": 0,
        "version": "3",
        "bundle": "sha256:3",
        "previous_version": "2",
        "previous_bundle": "sha256:2",
        "command": "r1.dev-1",
        "dispatched_s": 0.0,
    }
    return Assignment(**known | changes)


def good(version: str, *, misfit: float | None = None, epoch: int = 0, target: str = "pi") -> GoodRelease:
    bundle = ReleaseBundle(target=target, digest=f"sha256:{version}")
    return GoodRelease(version=version, bundle=bundle, security_epoch=epoch, misfit=misfit)


def device(**changes: Any) -> Device:
    known: dict[str, Any] = {
        "id": "dev-1",
        "target": "pi",
        "last_seen_s": 0.0,
        "version": "3",
        "bundle": "sha256:3",
        "idle": True,
        "reported_s": 0.0,
    }
    return Device(**known | changes)


def version_of(way: Return | Stay) -> str:
    return way.version if isinstance(way, Return) else way.why


def test_without_a_reason_to_think_otherwise_it_is_what_ran_before() -> None:
    for policy in (LAST_GOOD, PREVIOUS):
        way = way_back(order(), device(), [], policy, 0)
        assert isinstance(way, Return)
        assert (way.version, way.bundle, way.is_previous) == ("2", "sha256:2", True)


@pytest.mark.parametrize(
    ("before", "other", "expected"),
    [
        (0.05, 0.01, "2"),  # the one before fits: nothing else is needed
        (0.9, 0.05, "1"),  # the data are again those of version 1
        (0.9, 0.3, "1"),  # neither fits well, one fits far better
        (0.25, 0.18, "2"),  # both fit badly: no reason to bring something that did not run here
        (None, 0.01, "2"),  # too few inputs seen to judge the one before
        (0.9, None, "2"),  # too few to judge the other
    ],
)
def test_another_good_release_takes_its_place_where_the_data_changed(
    before: float | None, other: float | None, expected: str
) -> None:
    releases = [good("2", misfit=before), good("1", misfit=other)]
    assert version_of(way_back(order(), device(), releases, LAST_GOOD, 0)) == expected
    assert version_of(way_back(order(), device(), releases, PREVIOUS, 0)) == "2"


def test_the_numbers_behind_the_choice_come_with_it() -> None:
    way = way_back(order(), device(), [good("2", misfit=0.9), good("1", misfit=0.05)], LAST_GOOD, 0)
    assert isinstance(way, Return)
    assert (way.misfit, way.previous_misfit, way.is_previous) == (0.05, 0.9, False)


def test_a_release_for_another_board_is_no_way_back() -> None:
    releases = [good("2", misfit=0.9), good("1", misfit=0.01, target="jetson")]
    assert version_of(way_back(order(), device(), releases, LAST_GOOD, 0)) == "2"


def test_below_the_floor_a_device_stays_unless_another_good_release_is_above_it() -> None:
    old = order(previous_epoch=1)
    stay = way_back(old, device(), [], LAST_GOOD, 2)
    assert isinstance(stay, Stay)
    assert stay.why == "below_floor"
    assert stay.reason == "2 has security epoch 1, below the floor 2"
    assert version_of(way_back(old, device(), [good("2b", epoch=2)], LAST_GOOD, 2)) == "2b"
    assert version_of(way_back(old, device(), [good("2b", epoch=2)], PREVIOUS, 2)) == "below_floor"


def test_a_device_that_confirmed_a_higher_epoch_is_not_ordered_below_it() -> None:
    confirmed = order(phase="confirmed", previous_epoch=1)
    assert version_of(way_back(confirmed, device(security_epoch=4), [], LAST_GOOD, 0)) == "below_floor"
    failed = order(phase="failed", previous_epoch=1)
    assert version_of(way_back(failed, device(bundle="sha256:2", security_epoch=1), [], LAST_GOOD, 0)) == "2"


def test_what_was_itself_rolled_back_needs_a_person() -> None:
    taken = frozenset({"sha256:2"})
    assert version_of(way_back(order(), device(), [], LAST_GOOD, 0, taken_back=taken)) == "taken_back"
    assert version_of(way_back(order(), device(), [], LAST_GOOD, 0, taken_back=taken, is_approved=True)) == "2"
    assert version_of(way_back(order(), device(), [good("1")], LAST_GOOD, 0, taken_back=taken)) == "1"


def test_a_device_that_ran_nothing_or_something_unknown_gets_the_last_good_release() -> None:
    for one, why in (
        (order(previous_version=None, previous_bundle=None), "nothing_before"),
        (order(previous_known=False), "unknown_before"),
    ):
        assert version_of(way_back(one, device(), [], LAST_GOOD, 0)) == why
        assert version_of(way_back(one, device(), [good("1b"), good("1")], LAST_GOOD, 0)) == "1b"
        assert version_of(way_back(one, device(), [good("1b", misfit=2.0), good("1")], LAST_GOOD, 0)) == "1"
        assert version_of(way_back(one, device(), [good("1b")], PREVIOUS, 0)) == why


epochs = st.integers(0, 3)
misfits = st.none() | st.floats(0, 5, allow_nan=False)


@settings(max_examples=300, deadline=None)
@given(
    target=st.sampled_from(["PREVIOUS", "LAST_GOOD"]),
    floor=epochs,
    previous_epoch=epochs,
    previous=st.sampled_from([None, "sha256:0", "sha256:1", "sha256:2"]),
    is_known=st.booleans(),
    phase=st.sampled_from([None, "confirmed", "failed"]),
    device_epoch=epochs,
    releases=st.lists(st.tuples(st.sampled_from("0123"), misfits, epochs), max_size=5),
    taken=st.frozensets(st.sampled_from(["sha256:0", "sha256:1", "sha256:2"])),
)
def test_no_way_back_is_below_the_floor_unknown_or_the_release_itself(
    target: Literal["PREVIOUS", "LAST_GOOD"],
    floor: int,
    previous_epoch: int,
    previous: str | None,
    is_known: bool,
    phase: Any,
    device_epoch: int,
    releases: list[tuple[str, float | None, int]],
    taken: frozenset[str],
) -> None:
    one = order(
        previous_bundle=previous,
        previous_version=previous,
        previous_known=is_known,
        previous_epoch=previous_epoch,
        phase=phase,
    )
    good_ones = [good(version, misfit=misfit, epoch=epoch) for version, misfit, epoch in releases]
    here = device(security_epoch=device_epoch)
    policy = LAST_GOOD if target == "LAST_GOOD" else PREVIOUS
    way = way_back(one, here, good_ones, policy, floor, taken_back=taken)
    if isinstance(way, Stay):
        return
    known = {(release.bundle.digest, release.security_epoch) for release in good_ones}
    if previous is not None and is_known:
        known.add((previous, previous_epoch))
    lowest = max(floor, previous_epoch, device_epoch if phase == "confirmed" else 0)
    assert any(bundle == way.bundle and epoch >= lowest for bundle, epoch in known)
    assert way.bundle not in taken
    assert way.bundle != one.bundle
