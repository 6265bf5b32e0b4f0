"""Rollouts beside each other: who waits, who gives way, and that two that run never want the same device."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from edgewright.fleet.core.orders.conflicts import Precedence, meet, precedence
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import ENDED, Device, ReleaseBundle, Rollout, RolloutState
from edgewright.fleet.core.transitions import TRANSITIONS


def rollout(
    name: str,
    *,
    version: str = "2",
    boards: str = "xy",
    model: str = "m",
    state: RolloutState = "running",
    **policy: Any,
) -> Rollout:
    return Rollout(
        id=name,
        model=model,
        version=version,
        bundles=tuple(ReleaseBundle(target=board, digest=f"{version}-{board}") for board in boards),
        policy=policy_from(policy, where="test"),
        seed=1,
        created_s=0.0,
        state=state,
    )


def device(name: str, site: str, board: str = "x") -> Device:
    return Device(
        id=name, target=board, last_seen_s=0.0, version="1", bundle="old", idle=True, reported_s=0.0, site=site
    )


FLEET = [device("d1", "lyon"), device("d2", "graz"), device("d3", "graz", "y")]
LYON, GRAZ, BOTH = 'site == "lyon"', 'site == "graz"', 'site in ("lyon", "graz")'


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (rollout("a"), rollout("b"), True),
        (rollout("a"), rollout("a"), False),
        (rollout("a"), rollout("b", model="n"), False),
        (rollout("a", boards="x"), rollout("b", boards="y"), False),
        (rollout("a", boards="x"), rollout("b", boards="xz"), True),
        (rollout("a", group=LYON), rollout("b", group=GRAZ), False),
        (rollout("a", group=BOTH), rollout("b", group=GRAZ), True),
        (rollout("a", group=BOTH), rollout("b"), True),
        # d1 alone is in both groups, and it is no `y`
        (rollout("a", group=LYON, boards="y"), rollout("b", group=BOTH, boards="y"), False),
        (rollout("a", group='site == "oslo"'), rollout("b", group=' site == "oslo" '), True),
        *((rollout("a"), rollout("b", state=state), False) for state in sorted(ENDED)),
    ],
)
def test_who_meets(one: Rollout, other: Rollout, expected: bool) -> None:
    assert meet(one, other, FLEET) is expected
    assert meet(other, one, FLEET) is expected


def test_an_empty_fleet_has_room_for_two_all_the_same_not() -> None:
    assert meet(rollout("a"), rollout("b", group=LYON), [])


NOT_ENDED = sorted(set(get_args(RolloutState)) - ENDED)


@pytest.mark.parametrize("state", NOT_ENDED)
def test_what_an_older_rollout_means_for_a_new_one(state: RolloutState) -> None:
    older = rollout("old", version="1", state=state)
    refused = precedence(rollout("new"), [older], FLEET)
    taken = precedence(rollout("new", onConflict="SUPERSEDE"), [older], FLEET)
    if state == "rolling_back":
        assert "wait until it has ended" in refused.refusal
        assert taken == refused
        return
    assert taken == Precedence(supersedes=("old",))
    assert (state, "supersede") in TRANSITIONS, "what gives way must be able to"
    if state == "following":
        assert refused == taken, "it has nothing left to do but follow, so it never refuses another version"
    else:
        assert f"rollout old of m 1 is {state}" in refused.refusal
        assert 'onConflict = "SUPERSEDE"' in refused.refusal
        assert refused.supersedes == ()


@pytest.mark.parametrize("state", NOT_ENDED)
def test_the_same_version_is_not_started_anew_beside_itself(state: RolloutState) -> None:
    told = precedence(rollout("new", onConflict="SUPERSEDE"), [rollout("old", state=state)], FLEET)
    assert told.refusal
    assert not told.supersedes


def test_one_refusal_refuses_and_none_is_superseded() -> None:
    others = [rollout("a", version="1"), rollout("b", version="0", state="rolling_back")]
    told = precedence(rollout("new", onConflict="SUPERSEDE"), others, FLEET)
    assert "rollout b" in told.refusal
    assert told.supersedes == ()


def test_those_that_do_not_meet_are_left_alone() -> None:
    others = [rollout("a", version="1", group=LYON), rollout("b", version="1", group=GRAZ), rollout("c", model="n")]
    assert precedence(rollout("new", group=GRAZ, onConflict="SUPERSEDE"), others, FLEET) == Precedence(
        supersedes=("b",)
    )
    assert precedence(rollout("new", group='site == "oslo"'), others, FLEET) == Precedence()
