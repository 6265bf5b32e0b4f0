"""The pieces that every decision is made of: a batch of commands with the next revision of the rollout in front."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .gates.status import GateStatus
from .rows import Command, Decision, Number, Record, Rollout, SaveRollout


def numbers_of(gates: Sequence[GateStatus]) -> dict[str, Number]:
    return {
        f"{gate.gate}{'/' + gate.target if gate.target else ''}: {name}": value
        for gate in gates
        for name, value in gate.numbers.items()
    }


def record(rollout: Rollout, now_s: float, action: str, reason: str, actor: str, numbers: dict[str, Number]) -> Record:
    return Record(
        decision=Decision(
            at_s=now_s,
            rollout=rollout.id,
            wave=rollout.wave,
            action=action,
            reason=reason,
            actor=actor,
            numbers=numbers,
        )
    )


def batch(rollout: Rollout, commands: Sequence[Command]) -> tuple[Command, ...]:
    """Put the next revision of the rollout in front, so that two servers cannot apply two batches to one row."""
    if not commands:
        return ()
    return (SaveRollout(rollout=msgspec.structs.replace(rollout, revision=rollout.revision + 1)), *commands)


def count_of(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
