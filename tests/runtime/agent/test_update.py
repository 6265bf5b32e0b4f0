"""The update table against its rules, under any order of events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgewright.runtime.agent import effects, events, update
from edgewright.runtime.agent.model_state import ModelState, Order, Slot, decode_state, encode_state

ENDS = {"refused", "failed", "rolled_back", "confirmed"}
BUNDLES = tuple(f"sha256:{letter * 64}" for letter in "abc")


def event(kind: type[events.Event], **facts: Any) -> events.Event:
    return kind(at_s=1.0, boot="boot", **facts)


def order(number: int, bundle: str = BUNDLES[0], *, epoch: int = 0, rollback: bool = False) -> Order:
    return Order(
        command=f"c{number}",
        model="m",
        version=bundle[7],
        bundle=bundle,
        security_epoch=epoch,
        probation_s=10.0,
        size_bytes=1,
        source="/v1/artifacts/x",
        rollback=rollback,
    )


def slot_of(state: ModelState) -> Slot:
    assert state.update is not None
    wanted = state.update.order
    return Slot(
        bundle=wanted.bundle,
        version=wanted.version,
        security_epoch=wanted.security_epoch,
        peak_bytes=1,
        command=wanted.command,
    )


def run(state: ModelState, *happenings: events.Event) -> ModelState:
    for each in happenings:
        state, _ = update.handle(state, each)
    return state


def installed(state: ModelState, wanted: Order) -> ModelState:
    """Carry an order through to its end."""
    state = run(state, event(events.Ordered, order=wanted), event(events.Fetched))
    state = run(state, event(events.Unpacked, slot=slot_of(state)), event(events.TrialPassed))
    return run(state, event(events.Loaded), event(events.ProbationOver))


def test_the_long_way_ends_confirmed_with_a_way_back() -> None:
    state = installed(installed(ModelState(model="m"), order(1)), order(2, BUNDLES[1]))
    assert state.active_slot is not None
    assert state.rollback_slot is not None
    assert (state.active_slot.bundle, state.rollback_slot.bundle) == (BUNDLES[1], BUNDLES[0])
    assert [record.phase for record in state.outbox[-6:]] == [
        "fetching",
        "installing",
        "trial",
        "activating",
        "probation",
        "confirmed",
    ]
    assert decode_state(encode_state(state), "here") == state


def test_fleet_rollback_uses_the_other_slot_without_a_download() -> None:
    state = installed(installed(ModelState(model="m"), order(1)), order(2, BUNDLES[1]))
    state, wanted = update.handle(state, event(events.Ordered, order=order(3, BUNDLES[0], rollback=True)))
    assert wanted == (effects.Load(slot=state.active or "A"),)
    assert update.phase_of(state) == "activating"
    state = run(state, event(events.Loaded), event(events.ProbationOver))
    assert state.active_slot is not None
    assert state.active_slot.bundle == BUNDLES[0]
    assert state.outcomes[-1].phase == "confirmed"


def test_refused_before_anything_is_given_up() -> None:
    state = installed(installed(ModelState(model="m"), order(1)), order(2, BUNDLES[1]))
    before = state
    state = run(
        state, event(events.Ordered, order=order(3, BUNDLES[2])), event(events.Rejected, reason="for another target")
    )
    assert (state.slots, state.active, state.rollback) == (before.slots, before.active, before.rollback)
    assert state.outcomes[-1].phase == "refused"


def test_crash_loop_after_confirmation_goes_back_once_and_not_to_and_fro() -> None:
    state = installed(installed(ModelState(model="m"), order(1)), order(2, BUNDLES[1]))
    state = run(state, event(events.CrashLooped, reason="5 crashes"))
    assert state.active_slot is not None
    assert state.active_slot.bundle == BUNDLES[0]
    assert [outcome.phase for outcome in state.outcomes if outcome.command == "c2"] == ["rolled_back"]
    assert run(state, event(events.CrashLooped, reason="again")) == state


def test_order_below_the_floor_is_refused_without_a_download() -> None:
    state = installed(ModelState(model="m"), order(1, epoch=3))
    state, wanted = update.handle(state, event(events.Ordered, order=order(2, BUNDLES[1], epoch=2)))
    assert wanted == ()
    assert state.outcomes[-1].phase == "refused"
    assert "floor 3" in state.outcomes[-1].reason


@pytest.mark.parametrize("phase", ["installing", "trial", "activating", "probation"])
def test_stop_that_was_ordered_is_no_attempt_and_an_end_that_was_not_is_one(phase: str) -> None:
    steps = {"installing": 2, "trial": 3, "activating": 4, "probation": 5}[phase]
    state = run(ModelState(model="m"), event(events.Ordered, order=order(1)), event(events.Fetched))
    state = run(
        state,
        *[event(events.Unpacked, slot=slot_of(state)), event(events.TrialPassed), event(events.Loaded)][: steps - 2],
    )
    assert update.phase_of(state) == phase
    for _ in range(5):
        state = run(state, event(events.Stopped), event(events.Booted))
    assert update.phase_of(state) == phase
    for _ in range(update.MAX_ATTEMPTS):
        assert update.phase_of(state) == phase
        state = run(state, event(events.Booted))
    assert update.phase_of(state) == "idle"


def test_impossible_event_is_named() -> None:
    with pytest.raises(update.IllegalEvent, match="TrialPassed cannot happen while m is idle"):
        update.handle(ModelState(model="m"), event(events.TrialPassed))


def test_every_phase_has_an_answer_to_a_boot_and_to_a_crash() -> None:
    phases = {phase for phase, _ in update.TRANSITIONS}
    for phase in phases:
        assert (phase, events.Booted) in update.TRANSITIONS
        assert (phase, events.Crashed) in update.TRANSITIONS
        assert (phase, events.Loaded) in update.TRANSITIONS


class UpdateMachine(RuleBasedStateMachine):
    """Any legal order of events keeps the promises of update.py."""

    def __init__(self) -> None:
        super().__init__()
        self.state = ModelState(model="m")
        self.commands = 0
        self.good: set[str] = set()
        """Bundles that passed their trial on this device."""
        self.floor = 0

    def happens(self, kind: type[events.Event], **facts: Any) -> None:
        before = self.state
        self.state, wanted = update.handle(before, event(kind, **facts))
        after_activation = before.update is not None and before.update.phase in ("activating", "probation")
        if after_activation and self.state.update is not None:
            assert (self.state.rollback, self.state.active) == (before.rollback, before.active)
        if self.state.active != before.active:
            assert any(isinstance(effect, effects.Load | effects.Unload) for effect in wanted)
        if self.state.security_floor != before.security_floor:
            assert kind is events.ProbationOver
        ended = {outcome.command for outcome in self.state.outcomes} - {o.command for o in before.outcomes}
        assert len(ended) <= 1
        # Restart from the bytes on disk: nothing may live in memory only.
        self.state = decode_state(encode_state(self.state), "test")

    @rule(bundle=st.sampled_from(BUNDLES), epoch=st.integers(0, 2), rollback=st.booleans())
    @precondition(lambda self: self.state.update is None)
    def order(self, bundle: str, epoch: int, rollback: bool) -> None:
        held = [slot for slot in self.state.slots.values() if slot.bundle == bundle]
        self.commands += 1
        wanted = order(self.commands, bundle, epoch=held[0].security_epoch if held else epoch, rollback=rollback)
        self.happens(events.Ordered, order=wanted)
        repeated = self.state
        if self.state.update is None:
            self.happens(events.Ordered, order=wanted)
            assert self.state == repeated

    @rule(name=st.sampled_from(["Fetched", "Unpacked", "TrialPassed", "Loaded", "ProbationOver", "Booted", "Stopped"]))
    def goes_well(self, name: str) -> None:
        kind = getattr(events, name)
        if (update.phase_of(self.state), kind) not in update.TRANSITIONS:
            return
        if kind is events.TrialPassed and self.state.update is not None:
            self.good.add(self.state.update.order.bundle)
        self.happens(kind, **({"slot": slot_of(self.state)} if kind is events.Unpacked else {}))

    @rule(
        name=st.sampled_from(["Rejected", "Broken", "TrialFailed", "LoadFailed", "Crashed", "CrashLooped", "Withdrawn"])
    )
    def goes_wrong(self, name: str) -> None:
        kind = getattr(events, name)
        if (update.phase_of(self.state), kind) in update.TRANSITIONS:
            self.happens(kind, reason="something")

    @invariant()
    def only_tried_bundles_are_active(self) -> None:
        state = self.state
        assert state.active is None or state.active_slot is not None
        assert state.rollback is None or state.rollback != state.active
        for slot in (state.active_slot, state.rollback_slot):
            assert slot is None or slot.bundle in self.good

    @invariant()
    def spare_slot_is_the_one_that_changes(self) -> None:
        if self.state.update is not None and self.state.update.phase in ("fetching", "installing", "trial"):
            assert self.state.update.slot != self.state.active

    @invariant()
    def every_order_ends_once(self) -> None:
        ends = [record.command for record in self.state.outbox if record.phase in ENDS - {"rolled_back"}]
        assert len(ends) == len(set(ends))
        assert self.state.security_floor >= self.floor
        self.floor = self.state.security_floor


TestUpdateTable = UpdateMachine.TestCase
TestUpdateTable.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
