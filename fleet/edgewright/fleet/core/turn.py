"""What one tick works out from the rows that it sees, each thing once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

from .orders.arms import Drawn, drawn_by_target
from .orders.pace import allowed_now
from .orders.schedule import opener
from .orders.storms import may_take_release
from .orders.waves import candidates, fitting, graduable, is_offline, open_targets
from .outcomes import PENDING, Outcome, outcomes_of, was_unheard
from .policy.policy import wave_of
from .rows import Assignment, Device, Rollout
from .situation import Situation


class Turn:
    """One look at one rollout. Nothing in here changes; the rollout is the one of the rows, before any decision."""

    def __init__(self, seen: Situation) -> None:
        self.seen = seen
        self.rollout = seen.rollout
        self.now_s = seen.now_s
        self.outcomes: list[Outcome] = outcomes_of(seen.rollout, seen.assignments, seen.now_s)

    @cached_property
    def in_wave(self) -> list[tuple[Assignment, Outcome]]:
        """The orders of the present wave; controls have none."""
        wave = self.rollout.wave
        return [
            (one, result)
            for one, result in zip(self.seen.assignments, self.outcomes, strict=True)
            if one.wave == wave and one.arm != "control"
        ]

    @cached_property
    def candidates(self) -> list[Device]:
        """Devices that have neither order nor draw yet and are there to take one, in no order."""
        return candidates(self.rollout, self.now_s, self.seen.devices, self.seen.assignments)

    @cached_property
    def graduable(self) -> list[tuple[Assignment, Device]]:
        """Controls that may get the release."""
        return graduable(self.rollout, self.now_s, self.seen.devices, self.seen.assignments)

    @cached_property
    def given_again(self) -> list[tuple[Assignment, Device]]:
        """Orders that an emergency stop took back unheard, and the devices that are there to take them again.

        On the boards that go on nothing else takes back an order that nobody has heard.
        """
        unheard = [one for one in self.seen.assignments if was_unheard(one)]
        if not unheard:
            return []
        boards = open_targets(self.rollout)
        device_of = {device.id: device for device in self.seen.devices}
        found = [(one, device_of[one.device]) for one in unheard if one.device in device_of and one.target in boards]
        return [(one, device) for one, device in found if self.may_be_tried_again(device)]

    def may_be_tried_again(self, device: Device) -> bool:
        """Tell whether a device that has an order already is there to take another, whatever the hour."""
        rollout = self.rollout
        is_there = not device.taken and not is_offline(rollout, self.now_s, device)
        return is_there and may_take_release(rollout.policy, device)

    @cached_property
    def is_open(self) -> Callable[[str], bool]:
        """Whether orders may go out to a time zone now."""
        return opener(self.rollout.policy.scheduling_config, self.now_s)

    @cached_property
    def orders_left(self) -> int | None:
        """How many orders the pace still allows now; None is any number."""
        config = self.rollout.policy.job_executions_rollout_config
        if config.maximum_per_minute is None and config.exponential_rate is None:
            return None
        given = [one for one in self.seen.assignments if one.arm != "control"]
        # a retry replaces the time of the attempt before: that one, too, counts from it, which is never too few
        sent = [one.dispatched_s for one in given for _ in range(one.attempt)]
        succeeded = self.outcomes.count("succeeded")
        return allowed_now(config, self.now_s, sent, notified=len(given), succeeded=succeeded)

    @cached_property
    def drawn(self) -> dict[str, Drawn]:
        """What the present wave has drawn, by target."""
        return drawn_by_target([one for one in self.seen.assignments if one.wave == self.rollout.wave])

    @cached_property
    def next_position(self) -> int:
        """First position that is free."""
        return max((one.position for one in self.seen.assignments), default=-1) + 1

    @cached_property
    def next_block(self) -> int:
        """First block number that is free."""
        return max((one.block for one in self.seen.assignments), default=-1) + 1

    @cached_property
    def has_wave_ended(self) -> bool:
        """Whether all results of the present wave are in."""
        if self.rollout.wave < 0 or self.rollout.state == "following":
            return False
        if self.given_again:
            return False
        return self._is_complete() and all(result not in PENDING for _, result in self.in_wave)

    @cached_property
    def is_wave_over(self) -> bool:
        """Whether the wave has ended and, on the boards that go on, no horizon still runs: waiting brings nothing."""
        boards = open_targets(self.rollout)
        until_s = max((one.dispatched_s for one, _ in self.in_wave if one.target in boards), default=-math.inf)
        return self.has_wave_ended and self.now_s >= until_s + self.rollout.policy.horizon_seconds

    def _is_complete(self) -> bool:
        """Tell whether the wave gets no more orders. Devices that left before theirs came are not waited for."""
        rollout = self.rollout
        if len(self.in_wave) >= rollout.wave_size and not is_rest(rollout):
            return True
        lacking = self._lacking()
        if not lacking:
            return True
        can_wait = self.orders_left == 0 or not all(self.is_open(device.time_zone) for device in lacking)
        return not can_wait and self.now_s >= self._last_order_s() + rollout.policy.horizon_seconds

    def _lacking(self) -> list[Device]:
        if self.rollout.wave >= len(self.rollout.policy.waves):
            return [device for _, device in self.graduable]
        return fitting(self.rollout, self.rollout.wave, self.candidates)

    def _last_order_s(self) -> float:
        started_s = self.rollout.wave_started_s or 0.0
        return max((one.dispatched_s for one, _ in self.in_wave), default=started_s)


def is_rest(rollout: Rollout) -> bool:
    """Tell whether the present wave takes all that fit it."""
    return rollout.wave < len(rollout.policy.waves) and wave_of(rollout.policy, rollout.wave).add == "rest"
