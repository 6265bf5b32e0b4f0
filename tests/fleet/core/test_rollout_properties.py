"""Whatever happens, in whatever order, a rollout keeps its rules; left alone, it comes to an end."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.observations import Observation
from edgewright.fleet.core.rollout import OPERATOR_EVENTS, TRANSITIONS, fire
from edgewright.fleet.core.rows import ENDED, Assignment
from edgewright.runtime.telemetry.records import UpdatePhase

from .conftest import World, healthy

Script = list[tuple[str, Any]]
DEVICES = 16
RETRIES = 2

scripts: st.SearchStrategy[Script] = st.lists(
    st.one_of(
        st.tuples(st.just("time"), st.integers(1, 120)),
        st.tuples(st.just("event"), st.sampled_from(OPERATOR_EVENTS)),
        st.tuples(st.sampled_from(get_args(UpdatePhase)), st.integers(0, DEVICES - 1)),
        st.tuples(st.just("back"), st.integers(0, DEVICES - 1)),
        st.tuples(st.just("emergency"), st.booleans()),
        st.tuples(st.just("board fails"), st.sampled_from("ab")),
        st.tuples(st.just("offline"), st.integers(0, DEVICES - 1)),
    ),
    max_size=40,
)
waves = st.sampled_from(
    [
        [1, 2, "rest"],
        ["rest"],
        ["10%", "50%", "rest"],
        [{"add": 2, "boards": ["b"]}, {"add": "50%", "sites": ["lyon"], "requireApproval": True}, "rest"],
        [{"add": 3, "where": 'not id like "*1"'}, {"add": "rest", "boards": ["a"]}, "rest"],
    ]
)
policies: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "waves": waves,
        "horizonSeconds": st.just(200),
        "offlineAfterSeconds": st.just(150),
        "driftGate": st.just({"enabled": False}),
        "control": st.sampled_from([{"fractions": [0]}, {"fractions": [0.5]}, {"fractions": [0.5, 0.25, 0.1]}]),
        "jobExecutionsRetryConfig": st.sampled_from(
            [{}, {"criteriaList": [{"failureType": "ALL", "numberOfRetries": RETRIES}]}]
        ),
        "jobExecutionsRolloutConfig": st.sampled_from([{}, {"maximumPerMinute": 3}]),
        "blastRadius": st.sampled_from([{}, {"maxDevicesPerSite": 2}]),
        "targetSelection": st.sampled_from(["SNAPSHOT", "CONTINUOUS"]),
        "failureGate": st.sampled_from([{}, {"action": "PAUSE"}, {"action": "CANCEL"}, {"unit": "SITE"}]),
        "controlGate": st.sampled_from([{}, {"action": "PAUSE"}]),
    }
)


class Story:
    """A world, its clock, and what happened in it."""

    def __init__(self, policy: dict[str, Any], *, crashing: bool) -> None:
        self.here = World(policy, DEVICES, targets=("a", "b"), sites=("lyon", "lyon", "graz", ""))
        if crashing:
            self.here.observe = _crashing
        self.now_s = 0.0

    def happen(self, kind: str, value: Any) -> None:
        here = self.here
        match kind:
            case "time":
                self.advance(value)
            case "event":
                if (here.state, value) in TRANSITIONS:
                    self.act(value)
            case "emergency":
                here.is_stopped = value
            case "offline":
                here.away ^= {f"dev-{value:03d}"}
            case "board fails":
                for one in [each for each in here.ordered() if each.target == value and each.ended_s is None]:
                    here.report(one.device, "failed", self.now_s)
            case _:
                self._device_reports(kind, value)
        check(here)

    def advance(self, seconds: float) -> None:
        """Time passes, then the rollout is stepped to a standstill, and no order breaks a limit."""
        before = {one.device: one for one in self.here.ordered()}
        halted = {halt.target for halt in self.here.ledger.rollout.halted}
        self.now_s += seconds
        was_paused = self.here.state in {"paused", "awaiting_approval"}
        self.here.step(self.now_s)
        fresh = [one for one in self.here.ordered() if _is_new(one, before.get(one.device))]
        assert not (fresh and (self.here.is_stopped or was_paused)), "no orders while it is stopped or paused"
        assert not [one for one in fresh if one.target in halted], "no orders for a board that was halted"

    def act(self, event: Any) -> None:
        here = self.here
        commands = fire(here.ledger.rollout, event, self.now_s, here.ledger.assignments, actor="ada", reason="because")
        here.ledger = here.ledger.apply(commands)

    def _device_reports(self, kind: str, value: int) -> None:
        ordered = self.here.ordered()
        if not ordered:
            return
        one = ordered[value % len(ordered)]
        if kind == "back":
            self.here.ledger = self.here.ledger.report(one.device, rollback_phase="confirmed")
        elif one.ended_s is None:
            self.here.report(one.device, kind, self.now_s)


def _crashing(one: Assignment) -> Observation:
    return msgspec.structs.replace(healthy(one), crashes=5 if one.arm == "treated" else 0)


def _is_new(one: Assignment, before: Assignment | None) -> bool:
    return before is None or one.attempt > before.attempt


@settings(max_examples=300, deadline=None)
@given(script=scripts, policy=policies, crashing=st.booleans())
def test_whatever_happens_the_rollout_keeps_its_rules(script: Script, policy: dict[str, Any], crashing: bool) -> None:
    story = Story(policy, crashing=crashing)
    here = story.here
    for kind, value in script:
        story.happen(kind, value)  # each step asserts that the rows that are left ask for nothing more
    here.is_stopped = False
    for _ in range(150):  # left alone, it comes to an end: silence is a failure at the horizon
        if here.state == "paused":
            story.act("resume")
        if here.state == "awaiting_approval":
            story.act("approve")
        if here.state in {*ENDED, "following"}:
            break
        story.advance(60)
        check(here)
    assert here.state in {*ENDED, "following"}
    if here.state in {"completed", "following"}:
        check_nobody_waits(story)


def check(here: World) -> None:
    rows = here.ledger.assignments
    rollout = here.ledger.rollout
    assert len({one.device for one in rows}) == len(rows), "one row for each device"
    positions = [one.position for one in rows]
    assert all(one < other for one, other in pairwise(positions))
    assert [one.wave for one in rows] == sorted(one.wave for one in rows), "waves never go back"
    assert all(one.attempt <= 1 + RETRIES for one in rows)
    for one in rows:
        if one.arm == "control":
            assert one.rollback_command is None
            assert one.withdrawn_s is None
            assert one.phase is None
    check_blocks(rows)
    if here.state == "running" and 0 <= rollout.wave < len(rollout.policy.waves):
        treated = sum(one.wave == rollout.wave and one.arm == "treated" for one in rows)
        assert treated <= rollout.wave_size
    if here.state == "rolled_back":
        assert all(one.rollback_command or one.withdrawn_s is not None for one in here.ordered())


def check_blocks(rows: Any) -> None:
    members: dict[int, list[Assignment]] = {}
    for one in rows:
        if one.block >= 0:
            members.setdefault(one.block, []).append(one)
    assert sorted(members) == list(range(len(members))), "blocks are numbered without a gap"
    for block in members.values():
        assert {one.arm == "treated" for one in block} == {True, False}, "each block has both arms"
        assert len({one.target for one in block}) == 1
        assert len({one.drawn_s for one in block}) == 1
        assert len(block) <= 20


def check_nobody_waits(story: Story) -> None:
    """When all waves have passed, every board that goes on has the release on all devices that fit and are there."""
    here = story.here
    halted = {halt.target for halt in here.ledger.rollout.halted}
    unproven = Counter(one.site for one in here.ordered())
    for one in here.ledger.assignments:
        is_there = one.device not in here.away and one.target not in halted
        is_held = here.ledger.rollout.policy.blast_radius.max_devices_per_site is not None and unproven[one.site] >= 2
        assert not (one.arm == "control" and is_there and not is_held)
