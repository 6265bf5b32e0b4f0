"""All gates of a rollout at one moment, and what the control gates have learnt until then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from .gates.attribution import drift_gate
from .gates.control import blocks_of, control_gates, learn
from .gates.failures import failure_gates
from .gates.sites import plan_of
from .gates.status import GateStatus, abort_gates
from .observations import BlockOutcome, GateMemory
from .orders.floor import floor_gates
from .orders.storms import breaker, needs_a_person
from .orders.waves import open_targets
from .outcomes import PENDING
from .turn import Turn

ENOUGH_BLOCKS = 20
"""Fewer can hardly prove anything against the controls."""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates say, and what they remember."""

    gates: tuple[GateStatus, ...] = ()
    memory: GateMemory
    learnt: tuple[BlockOutcome, ...] = ()


def watch(turn: Turn) -> Watched:
    """Return what each gate says now. Before the first draw there is nothing to watch."""
    rollout, seen = turn.rollout, turn.seen
    gates: list[GateStatus] = list(floor_gates(rollout))
    if not seen.assignments:
        return Watched(gates=tuple(gates), memory=seen.memory)
    policy = rollout.policy
    gates += abort_gates(rollout, turn.outcomes)
    if policy.failure_gate.enabled:
        by_site = rollout.failure_unit == "SITE"
        plan = plan_of(rollout, seen.devices, seen.assignments) if by_site else None
        gates += failure_gates(rollout, seen.assignments, turn.outcomes, wave_ended=turn.has_wave_ended, plan=plan)
    is_after_waves = rollout.wave >= len(policy.waves)
    memory: GateMemory = seen.memory
    learnt: tuple[BlockOutcome, ...] = ()
    if policy.control_gate.enabled:
        memory, learnt = learn(rollout, seen.memory, seen.blocks)
        drawn = _blocks_waited_for(turn)
        wave_over = turn.is_wave_over or is_after_waves or _is_observed(turn, memory, drawn)
        gates += control_gates(rollout, memory, wave_over, drawn=drawn)
    if policy.drift_gate.enabled and not is_after_waves:
        gates += _drift_gates(turn)
    storm = breaker(rollout, seen.devices)
    if storm is not None:
        gates.append(storm)
    return Watched(gates=_unless_a_person_must(turn, gates), memory=memory, learnt=learnt)


def _blocks_waited_for(turn: Turn) -> int:
    """Return how many blocks the waves wait for: up to the last one of a board that still goes on."""
    boards = open_targets(turn.rollout)
    return 1 + max((one.block for one in turn.seen.assignments if one.target in boards), default=-1)


def _is_observed(turn: Turn, memory: GateMemory, drawn: int) -> bool:
    """Tell whether the wave's blocks have said all that they will: with a short observation, before the horizon."""
    has_blocks = any(one.block >= 0 for one, _ in turn.in_wave)
    return has_blocks and turn.has_wave_ended and memory.next_block >= drawn


def _drift_gates(turn: Turn) -> list[GateStatus]:
    """Ask the pooled traffic of each board on which traffic on the new bundle can still be expected."""
    of_target = {one.target: one for one in turn.seen.evidence}
    targets = sorted({one.target for one, result in turn.in_wave if result in {*PENDING, "succeeded"}})
    gate = turn.rollout.policy.drift_gate
    judged = _judged_by_blocks(turn)
    return [
        drift_gate(
            target,
            of_target.get(target),
            gate,
            wave_over=turn.is_wave_over,
            has_say=target not in judged,
        )
        for target in targets
    ]


def _judged_by_blocks(turn: Turn) -> frozenset[str]:
    """Return the boards on which the control gates take the place of pooled traffic.

    Those count devices, where pooled traffic counts rows and takes a few busy or odd devices for a release; but they
    need blocks: those that were learnt, or those that a board of so many devices will give.
    """
    if not turn.rollout.policy.control_gate.enabled:
        return frozenset()
    drawn = {one.target for one in turn.seen.assignments if one.block >= 0}
    devices = Counter(device.target for device in turn.seen.devices)
    learnt = turn.seen.memory
    return frozenset(
        target for target in drawn if devices[target] >= 2 * ENOUGH_BLOCKS or blocks_of(learnt, target) >= ENOUGH_BLOCKS
    )


def _unless_a_person_must(turn: Turn, gates: Sequence[GateStatus]) -> tuple[GateStatus, ...]:
    """Turn a gate's rollback into a pause where the way back leads only to what was itself rolled back."""
    targets = {gate.target for gate in gates if gate.action == "ROLLBACK"}
    why = {target: needs_a_person(turn.seen, None if target is None else (target,)) for target in targets}
    return tuple(
        msgspec.structs.replace(gate, action="PAUSE", reason=f"{gate.reason}; {why[gate.target]}")
        if gate.action == "ROLLBACK" and why[gate.target]
        else gate
        for gate in gates
    )
