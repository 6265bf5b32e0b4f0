"""What a run of `chaos.py` went through."""

from __future__ import annotations

import msgspec


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What a run went through."""

    seed: int
    events: int
    transactions: int
    kills: int
    interferences: int
    orders: int
    requests: int
    alerts: int
    hooks: int
    """Calls that alerts made."""
    experiments: int
    decisions: int
    """Of all rollouts: each was computed again from the audit log."""
    states: tuple[str, ...]
    """Of its rollouts, in the end."""
