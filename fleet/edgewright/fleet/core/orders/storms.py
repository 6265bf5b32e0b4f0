"""What keeps a fleet from going to and fro: budgets of orders, the pace of the way back, and a breaker for all.

Four rules, each on its own enough for one kind of storm:

- A device gets at most `rollback.maxOrdersPerDevicePerDay` orders in 24 hours, whoever gives them. The last one of them
  is kept for a way back, so the budget never strands a device on a bad release.
- The way back goes out at `rollback.maximumPerMinute`.
- No gate takes devices back to what was itself taken back: the rollout pauses, and a person decides.
- Where the devices of a rollout were ordered more than half their budget on average (and more than twice), the rollout
  pauses whatever the gates say. A release, its way back and the release that mends it are no more than that with the
  default of 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..gates.status import GateStatus
from ..policy.policy import Policy
from ..rows import Assignment, Device, Number, Rollout
from ..situation import Situation
from .pace import left_this_minute
from .regime import Stay, Ways

MOST_NAMED = 20
"""Devices that a reason lists by name."""


def may_take_release(policy: Policy, device: Device) -> bool:
    """Tell whether a device may be ordered to a release (also again) today."""
    most = policy.rollback.max_orders_per_device_per_day
    return device.orders_last_day < max(1, most - 1)


def may_go_back(policy: Policy, device: Device) -> bool:
    """Tell whether a device may be ordered back today."""
    return device.orders_last_day < policy.rollback.max_orders_per_device_per_day


def returns_left_now(rollout: Rollout, now_s: float, assignments: Iterable[Assignment]) -> int | None:
    """Return how many devices may be ordered back in this tick; None is any number."""
    per_minute = rollout.policy.rollback.maximum_per_minute
    if per_minute is None:
        return None
    return left_this_minute(per_minute, now_s, [one.rolled_back_s for one in assignments if one.rolled_back_s])


def breaker(rollout: Rollout, devices: Sequence[Device]) -> GateStatus | None:
    """Return why the rollout has to pause before it gives another order to a release; None while it need not."""
    targets = {bundle.target for bundle in rollout.bundles}
    orders = [device.orders_last_day for device in devices if device.target in targets]
    limit = breaker_limit(rollout.policy)
    if not orders or sum(orders) <= limit * len(orders):
        return None
    mean = sum(orders) / len(orders)
    numbers: dict[str, Number] = {"devices": len(orders), "orders_last_day": sum(orders), "limit_per_device": limit}
    reason = (
        f"{sum(orders)} orders to {len(orders)} devices in 24 h ({mean:.2f} each, limit {limit:g}): "
        "the fleet goes to and fro. Find out why before you resume"
    )
    return GateStatus(gate="storm", target=None, outcome="inconclusive", action="PAUSE", reason=reason, numbers=numbers)


def breaker_limit(policy: Policy) -> float:
    """Return the mean of orders per device and day from which on a rollout pauses; a release and its way back are 2."""
    return max(2.0, policy.rollback.max_orders_per_device_per_day / 2)


def needs_a_person(seen: Situation, targets: Iterable[str] | None = None) -> str | None:
    """Return why a gate may not order this rollout back by itself; None where it may.

    It may not where no device at all has a way back but one that was itself taken back. Where some have another, those
    go, and the others stay and are named (back.py).

    Args:
        seen: the situation.
        targets: only the devices of these boards; None: all.
    """
    if not seen.taken_back:
        return None
    chosen = None if targets is None else set(targets)
    device_of = {device.id: device for device in seen.devices}
    ways = Ways(seen)
    stuck: list[Assignment] = []
    for one in seen.assignments:
        if one.arm == "control" or (chosen is not None and one.target not in chosen):
            continue
        back = ways.of(one, device_of.get(one.device))
        if not isinstance(back, Stay):
            return None
        if back.why == "taken_back":
            stuck.append(one)
    if not stuck:
        return None
    return (
        f"to roll back would bring {named([one.device for one in stuck])} to {stuck[0].previous_version}, "
        "which was itself rolled back: a person decides"
    )


def named(devices: Sequence[str]) -> str:
    """Return the names of a few devices, and how many more there are."""
    listed = ", ".join(devices[:MOST_NAMED])
    return listed + (f" and {len(devices) - MOST_NAMED} more" if len(devices) > MOST_NAMED else "")
