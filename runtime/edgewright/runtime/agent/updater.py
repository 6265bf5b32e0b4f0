"""Carries out what update.py decides: writes the state, does the effects, turns what comes of them into events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from edgewright.targets.faults import Fault, UserFault

from ..telemetry.records import UpdateRecord
from . import effects, events, update
from .jobs import Cancelled
from .loop import Timer
from .model_state import ModelState, Order, SlotName
from .surroundings import Surroundings

_log = logging.getLogger(__name__)

_RETRY_SAVE_S = 5.0


class Updater:
    """All models of this device. Lives on the agent's loop."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.states: dict[str, ModelState] = {}
        self.listeners: list[Callable[[UpdateRecord], None]] = []
        self._timers: dict[str, Timer] = {}
        self._jobs: dict[str, tuple[str, Cancelled]] = {}
        self._waiting: dict[str, Order] = {}
        self._told: set[UpdateRecord] = set()
        """Reports that are in the spool but still in a state file's outbox."""

    def start(self, already_reported: Callable[[UpdateRecord], bool] = lambda _: False) -> None:
        """Take up the work where the last run left it."""
        self.states = self._around.store.load_all()
        for damage in self._around.store.damaged:
            _log.error("a model is left out: %s", damage)
        for model in tuple(self.states):
            self._told.update(record for record in self.states[model].outbox if already_reported(record))
            self._happens(model, events.Booted)
        self.flush_reports()

    def order(self, order: Order) -> None:
        """Carry out an order, once; a newer order takes the place of one that has not been activated."""
        state = self._state(order.model)
        if update.is_known(state, order.command):
            return
        running = state.update
        if running is not None:
            before_activation = running.phase in ("fetching", "installing", "trial")
            back = state.rollback_slot
            way_back = order.rollback and back is not None and back.bundle == order.bundle
            if not before_activation and not way_back:
                self._waiting[order.model] = order
                return
            self._happens(order.model, events.Withdrawn, reason=f"superseded by order {order.command}")
        self._happens(order.model, events.Ordered, order=order)

    def waits_for_room(self, order: Order) -> bool:
        """Whether an order could not be begun because its state cannot be written; it is tried again."""
        return not update.is_known(self._state(order.model), order.command)

    def roll_back(self, model: str, command: str, probation_s: float) -> str:
        """Go back to the other slot because a person says so; returns the command under which the end is reported.

        Raises:
            UserFault: there is nothing to go back to.
        """
        state = self.states.get(model)
        if state is None:
            raise UserFault(f"no model {model!r} on this device; it has: {', '.join(sorted(self.states)) or 'none'}")
        running, back = state.update, state.rollback_slot
        if running is not None and running.phase in ("activating", "probation"):
            self._happens(model, events.Withdrawn, reason="rolled back at the device")
            return running.order.command
        if back is None:
            raise UserFault(f"{model} has no other bundle to go back to")
        self.order(
            Order(
                command=command,
                model=model,
                version=back.version,
                bundle=back.bundle,
                security_epoch=back.security_epoch,
                probation_s=probation_s,
                size_bytes=0,
                source="file:",
                rollback=True,
            )
        )
        return command

    def server_ready(self, last: frozenset[str] = frozenset()) -> None:
        """A new server waits for its models. Those of `last` take long to start; the others do not wait for them."""
        for model, state in sorted(self.states.items(), key=lambda item: item[0] in last):
            if state.active:
                self._load(model, state.active)

    def server_crashed(self, reason: str, blamed: frozenset[str] = frozenset()) -> None:
        """The server died or hung; where models are to blame it is not held against the others."""
        for model in tuple(self.states):
            if not blamed or model in blamed:
                self._happens(model, events.Crashed, reason=reason)
            else:
                self._stop_timer(model)  # what does not serve is not on probation; Loaded starts the clock anew

    def crash_looped(self, reason: str) -> None:
        """The server keeps dying: one model that has a bundle to go back to goes back."""
        for model, state in tuple(self.states.items()):
            if state.update is None and state.rollback_slot is not None:
                _log.error("%s goes back to its last known good bundle: %s", model, reason)
                self._happens(model, events.CrashLooped, reason=reason)
                return

    def flush_reports(self) -> None:
        """Try again to spool reports that the spool could not take."""
        for model in tuple(self.states):
            self._report(model)

    def stop(self) -> None:
        """The agent ends in order: end what runs; the next start takes it up again."""
        for _, cancelled in self._jobs.values():
            cancelled.set()
        for model in tuple(self.states):
            self._stop_timer(model)
            self._happens(model, events.Stopped)

    def _state(self, model: str) -> ModelState:
        return self.states.get(model) or ModelState(model=model)

    def _happens(self, model: str, kind: type[events.Event], **facts: object) -> None:
        self._apply(model, self._event(kind, **facts))

    def _apply(self, model: str, event: events.Event) -> None:
        state = self._state(model)
        changed, wanted = update.handle(state, event)
        if changed != state and not self._save(changed):
            if not isinstance(event, events.Stopped):
                self._around.loop.call_later(_RETRY_SAVE_S, lambda: self._apply_if_still(model, state, event))
            return
        self._log_phase(state, changed)
        self._report(model)
        for effect in wanted:
            self._carry_out(model, effect)
        if changed.update is None:
            self._over(model)

    def _apply_if_still(self, model: str, before: ModelState, event: events.Event) -> None:
        if self._state(model) == before:
            self._apply(model, event)

    def _save(self, state: ModelState) -> bool:
        """Write the state down without the reports that are safe in the spool already."""
        told = [record for record in state.outbox if record in self._told]
        state = replace(state, outbox=tuple(record for record in state.outbox if record not in self._told))
        try:
            self._around.store.save(state)
        except OSError as error:
            _log.error("cannot write the state of %s, trying again: %s", state.model, error)
            return False
        self._told.difference_update(told)
        self.states[state.model] = state
        return True

    def _report(self, model: str) -> None:
        state = self.states.get(model)
        fresh = tuple(record for record in state.outbox if record not in self._told) if state else ()
        if state is None or not state.outbox:
            return
        if fresh and not self._around.report(fresh):
            return
        self._told.update(fresh)
        for record in fresh:
            for listener in tuple(self.listeners):
                listener(record)
        if state.update is None:
            # The end of an order is reported once: do not wait for the next change to forget it.
            self._save(state)

    def _log_phase(self, before: ModelState, after: ModelState) -> None:
        for record in after.outbox:
            if record not in before.outbox:
                because = f": {record.reason}" if record.reason else ""
                _log.info("%s %s %s%s [%s]", record.model, record.version, record.phase, because, record.command)

    def _over(self, model: str) -> None:
        self._stop_timer(model)
        running = self._jobs.pop(model, None)
        if running is not None:
            running[1].set()
        waiting = self._waiting.pop(model, None)
        if waiting is not None:
            self._around.loop.post(lambda: self.order(waiting))

    def _carry_out(self, model: str, effect: effects.Effect) -> None:
        match effect:
            case effects.Fetch(order=order):
                floor = self._state(model).security_floor
                self._start_job(model, lambda stop: self._fetch(order, floor, stop))
            case effects.Unpack(order=order, slot=slot):
                floor = self._state(model).security_floor
                self._start_job(model, lambda stop: self._unpack(order, slot, floor, stop))
            case effects.Try(slot=slot):
                directory = self._around.store.directory(model, slot)
                self._start_job(model, lambda stop: self._try_out(directory, stop))
            case effects.Load(slot=slot):
                self._load(model, slot)
            case effects.Unload():
                self._around.serving.unload(model)
            case effects.WatchProbation(after_s=after_s):
                self._watch(model, after_s)
            case effects.StopProbation():
                self._stop_timer(model)
            case effects.Discard(bundle=bundle):
                self._around.workshop.discard(bundle)

    def _start_job(self, model: str, job: Callable[[Cancelled], events.Event]) -> None:
        running = self._state(model).update
        if running is None:
            return
        command, stop = running.order.command, Cancelled()
        self._jobs[model] = (command, stop)

        def finished(event: events.Event) -> None:
            now = self._state(model).update
            # A result that comes after the order was withdrawn is nobody's.
            if now is not None and now.order.command == command and not stop.is_set():
                self._apply(model, event)

        self._around.jobs.run(model, lambda: job(stop), lambda event: self._around.loop.post(lambda: finished(event)))

    def _event(self, kind: type[events.Event], **facts: object) -> events.Event:
        return kind(at_s=self._around.wall_clock(), boot=self._around.boot, **facts)

    def _fetch(self, order: Order, floor: int, stop: Cancelled) -> events.Event:
        try:
            self._around.workshop.fetch(order, floor, stop)
        except UserFault as fault:
            return self._event(events.Rejected, reason=str(fault))
        except (Fault, OSError) as error:
            return self._event(events.Broken, reason=str(error))
        return self._event(events.Fetched)

    def _unpack(self, order: Order, slot: SlotName, floor: int, stop: Cancelled) -> events.Event:
        try:
            found = self._around.workshop.unpack(order, slot, floor, stop)
        except UserFault as fault:
            return self._event(events.Rejected, reason=str(fault))
        except (Fault, OSError) as error:
            return self._event(events.Broken, reason=str(error))
        return self._event(events.Unpacked, slot=found)

    def _try_out(self, directory: Path, stop: Cancelled) -> events.Event:
        try:
            self._around.workshop.try_out(directory, stop)
        except (Fault, OSError) as error:
            return self._event(events.TrialFailed, reason=str(error))
        return self._event(events.TrialPassed)

    def _load(self, model: str, slot: SlotName) -> None:
        bundle = self._state(model).slots[slot]

        def done(reason: str | None) -> None:
            state = self._state(model)
            if state.active_slot is None or state.active_slot.bundle != bundle.bundle:
                return
            if reason is None:
                self._happens(model, events.Loaded)
            else:
                _log.error("the server cannot load %s %s: %s", model, bundle.version, reason)
                self._happens(model, events.LoadFailed, reason=reason)

        self._around.serving.load(model, bundle, self._around.store.directory(model, slot), done)

    def _watch(self, model: str, after_s: float) -> None:
        running = self._state(model).update
        self._stop_timer(model)
        if running is None:
            return
        command = running.order.command

        def over() -> None:
            now = self._state(model).update
            if now is not None and now.order.command == command and now.phase == "probation":
                self._happens(model, events.ProbationOver)

        self._timers[model] = self._around.loop.call_later(after_s, over)

    def _stop_timer(self, model: str) -> None:
        timer = self._timers.pop(model, None)
        if timer is not None:
            timer.cancel()
