"""The way back, of a whole rollout or of one board while the others go on.

Every device gets one order to what it shall run again (orders/regime.py says what), at the pace and within the budget
that orders/storms.py allows, or stays where there is no way back: such devices are named once, with the reason. A
device that does not answer is given up on after the horizon; its order stands, so it goes back when it connects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from .batch import batch, count_of, record
from .orders.regime import Return, Stay, Ways, WhyStay
from .orders.storms import may_go_back, named, returns_left_now
from .outcomes import ENDING_PHASES, FAILURES, has_returned
from .rows import Assignment, BoardHalt, Command, Device, Number, RollBack, Rollout, Withdraw
from .situation import Situation
from .transitions import TRANSITIONS

DAY_S = 86400.0
WHY_STAY: dict[WhyStay, str] = {
    "nothing_before": "had nothing to go back to",
    "unknown_before": "ran a bundle that was never uploaded here: not ordered back",
    "below_floor": "ran what is below the security floor: not ordered back",
    "taken_back": "ran what was itself rolled back: not ordered back without a person",
}


def go_back(seen: Situation) -> tuple[Command, ...]:
    """Order devices of a rollout in `rolling_back` to what they shall run again, wait for them, then end the rollout.

    Nothing waits longer than one horizon after its order, and no order longer than a day.
    """
    rollout = seen.rollout
    since_s = rollout.returning_since_s or 0.0
    orders = take_back(seen, seen.assignments, since_s=since_s)
    if orders:
        return batch(rollout, orders)
    if _is_under_way(seen, seen.assignments, since_s):
        return ()
    reason, numbers = _summary(seen, seen.assignments)
    cause = f"{rollout.reason.removesuffix('.')}. " if rollout.reason else ""
    done = msgspec.structs.replace(
        rollout,
        state=TRANSITIONS[rollout.state, "returned"],
        finished_s=seen.now_s,
        reason=f"{cause}{reason}",
        halted=tuple(_returned(halt, seen.now_s) for halt in rollout.halted),
    )
    return batch(done, [record(done, seen.now_s, "rolled_back", reason, "fleet", numbers)])


def boards_go_back(seen: Situation) -> tuple[Rollout, list[Command]]:
    """Return what halted boards still need while the others go on, and the rollout with those that are back marked.

    `ROLLBACK`: its devices are ordered back. `CANCEL`: only orders that no device has heard are taken back.
    """
    rollout, commands = seen.rollout, []
    returning = {halt.target: halt for halt in rollout.halted if halt.action == "ROLLBACK" and halt.returned_s is None}
    if returning:
        since_s = min(halt.at_s for halt in returning.values())
        theirs = [one for one in seen.assignments if one.target in returning]
        commands = take_back(seen, theirs, since_s=since_s)
        if not commands:
            rollout, commands = _mark_returned(seen, returning)
    cancelled = {halt.target for halt in rollout.halted if halt.action == "CANCEL"}
    if cancelled:
        unheard = [one for one in seen.assignments if one.target in cancelled]
        commands += take_back_unheard(rollout, seen.now_s, unheard)
    return rollout, commands


def is_board_returning(rollout: Rollout) -> bool:
    """Tell whether a halted board has not settled yet: until then the rollout cannot complete."""
    return any(halt.action == "ROLLBACK" and halt.returned_s is None for halt in rollout.halted)


def take_back(seen: Situation, assignments: Sequence[Assignment], *, since_s: float) -> list[Command]:
    """Order devices back that were not yet, as many as may go now; let those stay that have no way back.

    What is out of the ordinary (devices that stay, or that get another release than the one before) is recorded once
    for each way back, for all of its devices: with the first order after `since_s`.
    """
    waiting = [one for one in assignments if _is_due(one)]
    if not waiting:
        return []
    device_of = {device.id: device for device in seen.devices}
    ways = Ways(seen)
    plan = {one.device: ways.of(one, device_of.get(one.device)) for one in waiting}
    left = returns_left_now(seen.rollout, seen.now_s, seen.assignments)
    commands: list[Command] = []
    for one in waiting:
        back, device = plan[one.device], device_of.get(one.device)
        if isinstance(back, Stay):
            commands.append(Withdraw(device=one.device, at_s=seen.now_s))
        elif device is not None and (left is None or left > 0) and may_go_back(seen.rollout.policy, device):
            left = None if left is None else left - 1
            commands.append(_order_back(seen.rollout, one, back.version, back.bundle, seen.now_s))
    if commands and not any(_was_taken_back(one, since_s) for one in assignments):
        commands += _plan_record(seen, waiting, plan)
    return commands


def take_back_unheard(rollout: Rollout, now_s: float, assignments: Iterable[Assignment]) -> list[Command]:
    """Take orders back that no device has heard of: each keeps what it runs, which is what it ran before.

    The order that this takes is the one that the day's budget keeps for it (orders/storms.py); a budget of one keeps
    none.
    """
    has_order_left = rollout.policy.rollback.max_orders_per_device_per_day > 1
    commands: list[Command] = []
    for one in assignments:
        if one.started_s is not None or one.phase is not None or not _is_due(one):
            continue
        version, bundle = one.previous_version, one.previous_bundle
        is_above_floor = one.previous_known and one.previous_epoch >= rollout.security_floor
        if version is None or bundle is None or not is_above_floor or not has_order_left:
            commands.append(Withdraw(device=one.device, at_s=now_s))
        else:
            commands.append(_order_back(rollout, one, version, bundle, now_s))
    return commands


def is_way_back_unknown(assignment: Assignment) -> bool:
    """Tell whether a device ran a bundle that this fleet has never seen."""
    return assignment.previous_bundle is not None and not assignment.previous_known


def with_halt(rollout: Rollout, halt: BoardHalt) -> Rollout:
    """Return the rollout with a board halted; where it is already, the stronger action stands."""
    strength = {"PAUSE": 1, "CANCEL": 2, "ROLLBACK": 3}
    known = next((one for one in rollout.halted if one.target == halt.target), None)
    if known is not None and strength[known.action] >= strength[halt.action]:
        return rollout
    others = tuple(one for one in rollout.halted if one.target != halt.target)
    return msgspec.structs.replace(rollout, halted=(*others, halt))


def _is_due(one: Assignment) -> bool:
    return one.arm != "control" and one.rollback_command is None and one.withdrawn_s is None


def _was_taken_back(one: Assignment, since_s: float) -> bool:
    return (one.rolled_back_s is not None and one.rolled_back_s >= since_s) or (
        one.withdrawn_s is not None and one.withdrawn_s >= since_s
    )


def _order_back(rollout: Rollout, one: Assignment, version: str, bundle: str, now_s: float) -> RollBack:
    command = f"{rollout.id}.{one.device}.back" + (f".{one.attempt}" if one.attempt > 1 else "")
    return RollBack(device=one.device, command=command, version=version, bundle=bundle, at_s=now_s)


def _is_under_way(seen: Situation, assignments: Sequence[Assignment], since_s: float) -> bool:
    """Tell whether a device is still waited for: one that was ordered back, or one whose order must wait."""
    horizon_s = seen.rollout.policy.horizon_seconds
    device_of = {device.id: device for device in seen.devices}
    for one in assignments:
        if _is_due(one):
            if one.device in device_of and seen.now_s < since_s + DAY_S + horizon_s:
                return True
        elif (
            one.rollback_command is not None
            and seen.now_s < (one.rolled_back_s or seen.now_s) + horizon_s
            and not has_returned(one, device_of.get(one.device))
        ):
            return True
    return False


def _mark_returned(seen: Situation, returning: Mapping[str, BoardHalt]) -> tuple[Rollout, list[Command]]:
    rollout, commands = seen.rollout, list[Command]()
    for target, halt in returning.items():
        theirs = [one for one in seen.assignments if one.target == target]
        if _is_under_way(seen, theirs, halt.at_s):
            continue
        reason, numbers = _summary(seen, theirs)
        settled = tuple(_returned(one, seen.now_s) if one.target == target else one for one in rollout.halted)
        rollout = msgspec.structs.replace(rollout, halted=settled)
        commands.append(
            record(rollout, seen.now_s, "board_returned", f"{target}: {reason}", "fleet", {"target": target, **numbers})
        )
    return rollout, commands


def _returned(halt: BoardHalt, now_s: float) -> BoardHalt:
    if halt.action != "ROLLBACK" or halt.returned_s is not None:
        return halt
    return msgspec.structs.replace(halt, returned_s=now_s)


def _plan_record(seen: Situation, waiting: Sequence[Assignment], plan: Mapping[str, Return | Stay]) -> list[Command]:
    """Record which devices go elsewhere than to what they ran, and which stay; nothing where there are none."""
    groups: dict[str, list[str]] = {}
    numbers: dict[str, Number] = {}
    for one in waiting:
        back = plan[one.device]
        if isinstance(back, Stay):
            text = f"stay on {one.version}, for before them: {back.reason}"
        elif not back.is_previous:
            text = f"go to {back.version} on {one.target} and not to {one.previous_version}{_fit(back)}"
            numbers[f"misfit {one.target} {back.version}"] = back.misfit
            numbers[f"misfit {one.target} {one.previous_version}"] = back.previous_misfit
        else:
            continue
        groups.setdefault(text, []).append(one.device)
    if not groups:
        return []
    reason = "; ".join(f"{named(devices)} {text}" for text, devices in groups.items())
    return [record(seen.rollout, seen.now_s, "way_back", reason, "fleet", numbers)]


def _fit(back: Return) -> str:
    if back.misfit is None or back.previous_misfit is None:
        return ""
    return f" (PSI of the present inputs {back.misfit:.3g} against {back.previous_misfit:.3g})"


def _summary(seen: Situation, assignments: Sequence[Assignment]) -> tuple[str, dict[str, Number]]:
    """Return what came of a way back that has ended."""
    device_of = {device.id: device for device in seen.devices}
    sent = [one for one in assignments if one.rollback_command is not None]
    silent = sum(not has_returned(one, device_of.get(one.device)) for one in sent)
    failed = sum(one.rollback_phase is not None and ENDING_PHASES.get(one.rollback_phase) in FAILURES for one in sent)
    elsewhere = sum(one.rollback_bundle not in {None, one.previous_bundle} for one in sent)
    stayed = _stayed(seen, assignments, device_of)
    unsent = [one for one in assignments if _is_due(one)]
    gone = sum(one.device not in device_of for one in unsent)
    numbers: dict[str, Number] = {
        "ordered_back": len(sent),
        "returned": len(sent) - silent - failed,
        "failed": failed,
        "silent": silent,
        "nothing_before": stayed["nothing_before"],
        "unknown_before": stayed["unknown_before"],
        "below_floor": stayed["below_floor"],
        "taken_back_before": stayed["taken_back"],
        "to_another_release": elsewhere,
        "over_budget": len(unsent) - gone,
        "removed": gone,
    }
    reason = f"{numbers['returned']} of {count_of(len(sent), 'device')} back on what they {_what(elsewhere)}"
    for number, text in (
        (failed, "could not go back"),
        (silent, "not heard of: they go back when they connect"),
        *((stayed[why], text) for why, text in WHY_STAY.items()),
        (len(unsent) - gone, "had their orders for the day and stay"),
        (gone, "not enrolled any more"),
    ):
        reason += f"; {number} {text}" if number else ""
    return reason, numbers


def _what(elsewhere: int) -> str:
    return f"ran before, or ({elsewhere} of them) on what fits the present data better" if elsewhere else "ran before"


def _stayed(seen: Situation, assignments: Collection[Assignment], device_of: Mapping[str, Device]) -> Counter[WhyStay]:
    """Count the devices that stay, by reason."""
    ways = Ways(seen)
    found: Counter[WhyStay] = Counter()
    for one in assignments:
        if one.withdrawn_s is not None:
            back = ways.of(one, device_of.get(one.device))
            found[back.why if isinstance(back, Stay) else "nothing_before"] += 1
    return found
