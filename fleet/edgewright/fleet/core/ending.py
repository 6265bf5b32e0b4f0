"""How a rollout ends by itself: completed, or following devices that join, or at its end time."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .batch import count_of, record
from .orders.waves import is_offline
from .outcomes import FAILURES
from .rows import ENDED, Command, Number, Rollout
from .transitions import TRANSITIONS
from .turn import Turn


def end(turn: Turn, rollout: Rollout, numbers: Mapping[str, Number], *, why: str = "") -> tuple[Rollout, list[Command]]:
    """Return the rollout completed, or following where its selection is continuous, with the sum of what came of it.

    Args:
        turn: the tick.
        rollout: the rollout; it runs or follows.
        numbers: behind the decision.
        why: it ends early, and this is why; then it follows no longer.
    """
    reason, counts = _sum(turn, rollout)
    follows = rollout.policy.target_selection == "CONTINUOUS" and not why
    state = TRANSITIONS[rollout.state, "follow" if follows else "finish"]
    ended = msgspec.structs.replace(
        rollout,
        state=state,
        wave=len(rollout.policy.waves) if follows else rollout.wave,
        finished_s=turn.now_s if state in ENDED else None,
        reason=f"{why}: {reason}" if why else f"{reason}; devices that join get it" if follows else reason,
    )
    word = "following" if follows else "completed"
    return ended, [record(ended, turn.now_s, word, ended.reason, "fleet", {**numbers, **counts})]


def _sum(turn: Turn, rollout: Rollout) -> tuple[str, dict[str, Number]]:
    outcomes = turn.outcomes
    drawn = {one.device for one in turn.seen.assignments}
    targets = {bundle.target for bundle in rollout.bundles}
    offline = sum(
        device.target in targets and device.id not in drawn and is_offline(rollout, turn.now_s, device)
        for device in turn.seen.devices
    )
    counts: dict[str, Number] = {
        "succeeded": outcomes.count("succeeded"),
        "failed": sum(result in FAILURES for result in outcomes),
        "recalled": outcomes.count("recalled"),
        "controls": outcomes.count("control"),
        "offline": offline,
    }
    reason = f"{count_of(outcomes.count('succeeded'), 'device')} on {rollout.version}, {counts['failed']} failed"
    for name, text in (
        ("offline", "offline and left as they are"),
        ("controls", "controls kept what they run"),
        ("recalled", "taken back before they had a result"),
    ):
        reason += f", {counts[name]} {text}" if counts[name] else ""
    for halt in rollout.halted:
        reason += f"; {halt.target} halted ({halt.action}): {halt.reason}"
    return reason, counts
