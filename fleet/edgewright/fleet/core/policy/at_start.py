"""What a policy must not say about this release at this time: checked once, when the rollout is made."""

from __future__ import annotations

from collections.abc import Iterable

from ..orders.schedule import is_after_end
from .faults import PolicyError
from .policy import Policy, wave_of


def check_at_start(policy: Policy, boards: Iterable[str], now_s: float, *, where: str) -> None:
    """Check that no wave waits for a board that the release has nothing for, and that the end is still ahead.

    Args:
        policy: a policy that was read.
        boards: the targets that the release has a bundle for.
        now_s: the time.
        where: names the policy in errors.

    Raises:
        PolicyError: the rollout could not do what the policy says.
    """
    known = sorted(boards)
    for number in range(len(policy.waves)):
        unknown = sorted(set(wave_of(policy, number).boards) - set(known))
        if unknown:
            raise PolicyError(
                f"{where}: waves: wave {number + 1} is for board {unknown[0]!r}, for which the release has no bundle; "
                f"it has {', '.join(known)}"
            )
    if is_after_end(policy.scheduling_config, now_s):
        raise PolicyError(f"{where}: schedulingConfig.endTime ({policy.scheduling_config.end_time}) is over already")
