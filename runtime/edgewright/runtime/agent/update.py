"""The update of one model as a transition table: (phase, event) -> (state, effects).

Pure: nothing here touches a clock, a file or a process. The caller writes the new state down *before* it carries out
the effects, so that a power cut between the two repeats an effect and never skips one. Every effect can be repeated.

    idle --Ordered--> fetching --Fetched--> installing --Unpacked--> trial --TrialPassed--> activating
                                                                                                |  Loaded
                                                                       confirmed <-- probation <'
                                                                        ProbationOver
    Rejected in any phase before activation -> refused
    Broken, TrialFailed or Withdrawn before activation -> failed
    LoadFailed, Withdrawn, or Crashed too often after activation -> rolled_back

Rules:
* `active` and `rollback` change together, in one state, and so with one atomic rename of the state file.
* While an update is activating or in probation, the rollback target does not change.
* The security floor rises at `confirmed`, never before: until then the older bundle may be gone back to.
* A restart that was ordered (a stop of the service, a reboot) is not an attempt; only an end by a crash or a cut is.
* Each order ends exactly once, in an `Outcome`; an order whose command has one is not carried out again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from msgspec.structs import replace

from ..telemetry.records import UpdatePhase, UpdateRecord
from .effects import Discard, Effect, Fetch, Load, StopProbation, Try, Unload, Unpack, WatchProbation
from .events import (
    Booted,
    Broken,
    Crashed,
    CrashLooped,
    Event,
    Fetched,
    Loaded,
    LoadFailed,
    Ordered,
    ProbationOver,
    Rejected,
    Stopped,
    TrialFailed,
    TrialPassed,
    Unpacked,
    Withdrawn,
)
from .model_state import MAX_OUTCOMES, ModelState, Order, Outcome, RunningPhase, Update, other

MAX_ATTEMPTS = 3
"""So many crashes of the server, or starts after an end that nobody ordered, in one phase end the update."""


Step = tuple[ModelState, tuple[Effect, ...]]
Handler = Callable[[ModelState, Any], Step]


class IllegalEvent(RuntimeError):
    """This event cannot happen in this phase."""


def phase_of(state: ModelState) -> str:
    """Return the phase of the update, or `idle`."""
    return state.update.phase if state.update else "idle"


def handle(state: ModelState, event: Event) -> Step:
    """Return what becomes of a model, and what has to be done.

    Raises:
        IllegalEvent: the event makes no sense now.
    """
    handler = TRANSITIONS.get((phase_of(state), type(event)))
    if handler is None:
        raise IllegalEvent(f"{type(event).__name__} cannot happen while {state.model} is {phase_of(state)}")
    return handler(state, event)


def is_known(state: ModelState, command: str) -> bool:
    """Whether an order was carried out or is being carried out."""
    running = state.update is not None and state.update.order.command == command
    return running or any(outcome.command == command for outcome in state.outcomes)


def _ordered(state: ModelState, event: Ordered) -> Step:
    order = event.order
    if is_known(state, order.command):
        return state, ()
    if order.security_epoch < state.security_floor:
        return _end(_begin(state, order, "fetching"), event, "refused", _below_floor(order.security_epoch, state)), ()
    active = state.active_slot
    if active is not None and active.bundle == order.bundle:
        return _end(_begin(state, order, "fetching"), event, "confirmed", "this bundle was active already"), ()
    spare = state.slots.get(other(state.active))
    if order.rollback and spare is not None and spare.bundle == order.bundle:
        return _activate(_begin(state, order, "trial"), event)
    state = _report(_begin(state, order, "fetching"), event, "fetching")
    return state, (Fetch(order=order),)


def _fetched(state: ModelState, event: Event) -> Step:
    update = _update(state)
    # The slot is given up before the first byte in it changes.
    slots = {name: slot for name, slot in state.slots.items() if name != update.slot}
    state = replace(state, slots=slots, rollback=None)
    state = _report(_enter(state, "installing"), event, "installing")
    return state, (Unpack(order=update.order, slot=update.slot),)


def _unpacked(state: ModelState, event: Unpacked) -> Step:
    update = _update(state)
    state = replace(state, slots={**state.slots, update.slot: event.slot})
    state = _report(_enter(state, "trial"), event, "trial")
    return state, (Discard(bundle=update.order.bundle), Try(slot=update.slot))


def _activate(state: ModelState, event: Event) -> Step:
    slot = _update(state).slot
    state = replace(state, active=slot, rollback=state.active)
    state = _report(_enter(state, "activating"), event, "activating")
    return state, (Load(slot=slot),)


def _serving(state: ModelState, event: Loaded) -> Step:
    if phase_of(state) == "activating":
        state = _report(_enter(state, "probation"), event, "probation")
    return state, (WatchProbation(after_s=_update(state).order.probation_s),)


def _confirm(state: ModelState, event: ProbationOver) -> Step:
    epoch = state.active_slot.security_epoch if state.active_slot else 0
    state = replace(state, security_floor=max(state.security_floor, epoch))
    back = state.rollback_slot
    if back is not None and back.security_epoch < state.security_floor:
        state = replace(state, rollback=None)
    return _end(state, event, "confirmed", ""), ()


def _refuse(state: ModelState, event: Rejected) -> Step:
    return _give_up(state, event, "refused", event.reason)


def _fail(state: ModelState, event: Broken | TrialFailed | Withdrawn) -> Step:
    return _give_up(state, event, "failed", event.reason)


def _give_up(state: ModelState, event: Event, phase: UpdatePhase, reason: str) -> Step:
    """End an update before its activation: the active bundle was never touched."""
    update = _update(state)
    if update.phase != "fetching":
        state = replace(state, slots={name: slot for name, slot in state.slots.items() if name != update.slot})
    return _end(state, event, phase, reason), (Discard(bundle=update.order.bundle),)


def _roll_back(state: ModelState, event: Event, reason: str) -> Step:
    state = _end(replace(state, active=state.rollback, rollback=None), event, "rolled_back", reason)
    return state, (Load(slot=state.active) if state.active else Unload(),)


def _roll_back_because(state: ModelState, event: LoadFailed | Withdrawn) -> Step:
    return _roll_back(state, event, event.reason)


def _crashed(state: ModelState, event: Crashed) -> Step:
    attempts = _update(state).attempts + 1
    if attempts >= MAX_ATTEMPTS:
        return _roll_back(state, event, f"the server died {attempts} times with this bundle; last: {event.reason}")
    return _count(state), (StopProbation(),)


def _booted_idle(state: ModelState, event: Booted) -> Step:
    del event
    return state, _load_active(state)


def _booted_fetching(state: ModelState, event: Booted) -> Step:
    del event
    return state, (*_load_active(state), Fetch(order=_update(state).order))


def _booted_before_activation(state: ModelState, event: Booted) -> Step:
    state = _started(state)
    update = _update(state)
    if update.attempts >= MAX_ATTEMPTS:
        reason = f"{update.phase} was interrupted {update.attempts} times by a restart of the device or its agent"
        state, effects = _give_up(state, event, "failed", reason)
        return state, (*_load_active(state), *effects)
    again: Effect = (
        Unpack(order=update.order, slot=update.slot) if update.phase == "installing" else Try(slot=update.slot)
    )
    return state, (*_load_active(state), again)


def _booted_after_activation(state: ModelState, event: Booted) -> Step:
    state = _started(state)
    attempts = _update(state).attempts
    if attempts >= MAX_ATTEMPTS:
        return _roll_back(
            state, event, f"the device or its agent died {attempts} times before this bundle was confirmed"
        )
    return state, _load_active(state)


def _stopped(state: ModelState, event: Stopped) -> Step:
    del event
    return replace(state, update=replace(_update(state), stopped=True)), ()


def _fall_back(state: ModelState, event: CrashLooped | LoadFailed) -> Step:
    """A confirmed bundle stopped working: go to the last known good one, and not to and fro between them."""
    bad, good = state.active_slot, state.rollback_slot
    if bad is None or good is None or state.rollback is None:
        return state, ()
    outcome = Outcome(
        command=bad.command, bundle=bad.bundle, version=bad.version, phase="rolled_back", reason=event.reason
    )
    state = replace(state, active=state.rollback, rollback=None)
    return _conclude(state, event, outcome), _load_active(state)


def _nothing(state: ModelState, event: Event) -> Step:
    del event
    return state, ()


def _begin(state: ModelState, order: Order, phase: RunningPhase) -> ModelState:
    return replace(state, update=Update(order=order, phase=phase, slot=other(state.active)))


def _enter(state: ModelState, phase: RunningPhase) -> ModelState:
    return replace(state, update=replace(_update(state), phase=phase, attempts=0))


def _count(state: ModelState) -> ModelState:
    update = _update(state)
    return replace(state, update=replace(update, attempts=update.attempts + 1))


def _started(state: ModelState) -> ModelState:
    """Count a start of the agent, unless the end before it was ordered."""
    update = _update(state)
    if update.stopped:
        return replace(state, update=replace(update, stopped=False))
    return _count(state)


def _update(state: ModelState) -> Update:
    return cast("Update", state.update)


def _load_active(state: ModelState) -> tuple[Effect, ...]:
    return (Load(slot=state.active),) if state.active else ()


def _below_floor(epoch: int, state: ModelState) -> str:
    return f"security epoch {epoch} is below this device's floor {state.security_floor} for {state.model}"


def _report(state: ModelState, event: Event, phase: UpdatePhase) -> ModelState:
    order = _update(state).order
    record = UpdateRecord(
        command=order.command,
        model=state.model,
        version=order.version,
        bundle=order.bundle,
        phase=phase,
        reason="",
        at_s=event.at_s,
        boot=event.boot,
    )
    return replace(state, outbox=(*state.outbox, record))


def _end(state: ModelState, event: Event, phase: UpdatePhase, reason: str) -> ModelState:
    order = _update(state).order
    outcome = Outcome(command=order.command, bundle=order.bundle, version=order.version, phase=phase, reason=reason)
    return _conclude(replace(state, update=None), event, outcome)


def _conclude(state: ModelState, event: Event, outcome: Outcome) -> ModelState:
    record = UpdateRecord(
        command=outcome.command,
        model=state.model,
        version=outcome.version,
        bundle=outcome.bundle,
        phase=outcome.phase,
        reason=outcome.reason,
        at_s=event.at_s,
        boot=event.boot,
    )
    kept = tuple(old for old in state.outcomes if old.command != outcome.command)
    return replace(state, outcomes=(*kept, outcome)[-MAX_OUTCOMES:], outbox=(*state.outbox, record))


_TABLE: dict[tuple[str, type[Event]], Handler] = {
    ("idle", Ordered): _ordered,
    ("idle", Booted): _booted_idle,
    ("idle", Loaded): _nothing,
    ("idle", LoadFailed): _fall_back,
    ("idle", Crashed): _nothing,
    ("idle", CrashLooped): _fall_back,
    ("fetching", Fetched): _fetched,
    ("fetching", Rejected): _refuse,
    ("fetching", Broken): _fail,
    ("fetching", Withdrawn): _fail,
    ("fetching", Booted): _booted_fetching,
    ("installing", Unpacked): _unpacked,
    ("installing", Rejected): _refuse,
    ("installing", Broken): _fail,
    ("installing", Withdrawn): _fail,
    ("installing", Booted): _booted_before_activation,
    ("trial", TrialPassed): _activate,
    ("trial", TrialFailed): _fail,
    ("trial", Rejected): _refuse,
    ("trial", Withdrawn): _fail,
    ("trial", Booted): _booted_before_activation,
    ("activating", Loaded): _serving,
    ("activating", LoadFailed): _roll_back_because,
    ("activating", Crashed): _crashed,
    ("activating", Withdrawn): _roll_back_because,
    ("activating", Booted): _booted_after_activation,
    ("probation", Loaded): _serving,
    ("probation", LoadFailed): _roll_back_because,
    ("probation", Crashed): _crashed,
    ("probation", ProbationOver): _confirm,
    ("probation", Withdrawn): _roll_back_because,
    ("probation", Booted): _booted_after_activation,
}

_NEWS: tuple[type[Event], ...] = (Loaded, LoadFailed, Crashed, CrashLooped)

# Until its activation an update does not touch what is served: news of the active bundle changes nothing in it.
_UNTOUCHED: dict[tuple[str, type[Event]], Handler] = {
    (phase, event): _nothing for phase in ("fetching", "installing", "trial") for event in _NEWS
}

_STOPPED: dict[tuple[str, type[Event]], Handler] = {
    ("idle", Stopped): _nothing,
    ("fetching", Stopped): _nothing,
    **{(phase, Stopped): _stopped for phase in ("installing", "trial", "activating", "probation")},
}

TRANSITIONS: dict[tuple[str, type[Event]], Handler] = {
    **_TABLE,
    **_UNTOUCHED,
    **_STOPPED,
    ("activating", CrashLooped): _nothing,
    ("probation", CrashLooped): _nothing,
}
"""Everything that can happen, and what it leads to; anything else is a bug of the caller."""
