"""The new release against the controls drawn beside it, block by block, board by board.

    due = due_blocks(rollout, assignments, memory, now_s)       # the shell reads what these devices did: Block
    memory, learnt = learn(rollout, memory, blocks)             # both are stored in one transaction
    gates = control_gates(rollout, memory, wave_over, drawn)

A block enters once, in its order, when the observation time of all its devices is over; so each test is an e-process
over blocks, and one may look after every block (sequential/). Data that drift for all devices of a board drift for both
arms of its blocks and cancel out: that is difference-in-differences with the coin as its assumption.

Beside its metrics each board has the gate `all`: the weighted mean of their e-values as they stand, which is an e-value
in the order of the blocks. It stops wherever one metric alone would, and where several lean together. Histograms are
not in it: that answers changed is no loss, so `outputs` asks for a change of practical size as well, and `inputs` only
warns that the arms see different data. Over all boards there is one more test of each metric (over_boards.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ..observations import Block, BlockOutcome, Evidence, GateMemory
from ..outcomes import was_unheard
from ..rows import Assignment, Number, Rollout
from ..sequential import combine
from .comparison_status import all_gate, averaged, limit_of, metric_gate
from .comparisons import COMPARISONS
from .over_boards import pooled_gates
from .status import GateStatus
from .weights import enabled_metrics

MOST_BLOCKS = 1000
"""That are due in one tick: after a long outage the rest follows in the next ones."""


def due_blocks(
    rollout: Rollout, assignments: Sequence[Assignment], memory: GateMemory, now_s: float
) -> list[tuple[int, list[Assignment]]]:
    """Return the blocks that may enter now, in their order and without a gap, with their devices.

    A block with an order that an emergency stop took back unheard waits until it is given again (turn.py).
    """
    ripe_s = now_s - observation_s(rollout)
    following = memory.next_block
    open_ones = [one for one in assignments if one.block >= following]
    if not open_ones:
        return []
    halted = {halt.target for halt in rollout.halted}
    unripe = min(
        (one.block for one in open_ones if drawn_s(one) > ripe_s or (was_unheard(one) and one.target not in halted)),
        default=None,
    )
    end = min(following + MOST_BLOCKS, math.inf if unripe is None else unripe)
    members: dict[int, list[Assignment]] = {}
    for one in open_ones:
        if one.block < end:
            members.setdefault(one.block, []).append(one)
    due = []
    while following in members:
        due.append((following, sorted(members[following], key=lambda one: one.device)))
        following += 1
    return due


def observation_s(rollout: Rollout) -> float:
    """Return how long a device is observed after its draw."""
    observation = rollout.policy.control.observation_seconds
    return rollout.policy.horizon_seconds if observation is None else observation


def drawn_s(assignment: Assignment) -> float:
    return assignment.dispatched_s if assignment.drawn_s is None else assignment.drawn_s


def learn(rollout: Rollout, memory: GateMemory, blocks: Sequence[Block]) -> tuple[GateMemory, tuple[BlockOutcome, ...]]:
    """Return what the tests know after these blocks, and what each block gave to them.

    Blocks that were learnt before are passed by, so that a tick may be repeated; none after a gap is learnt.
    """
    learnt = []
    for block in sorted(blocks, key=lambda one: one.number):
        if block.number != memory.next_block:
            continue
        found = outcome_of(rollout, block)
        memory = fold(rollout, memory, found)
        learnt.append(found)
    return memory, tuple(learnt)


def outcome_of(rollout: Rollout, block: Block) -> BlockOutcome:
    """Return what a block gives to each test."""
    values = {metric: COMPARISONS[metric].values(block) for metric in enabled_metrics(rollout.policy)}
    return BlockOutcome(
        number=block.number, target=block.target, values={metric: one for metric, one in values.items() if one}
    )


def fold(rollout: Rollout, memory: GateMemory, found: BlockOutcome) -> GateMemory:
    """Return the memory after one block: all that `fleet explain` needs to compute every e-value again."""
    tests = dict(memory.tests)
    for metric, values in found.values.items():
        key = f"{found.target}/{metric}"
        tests[key] = COMPARISONS[metric].advance(tests.get(key, Evidence()), values, limit_of(rollout, metric))
    key = f"{found.target}/all"
    tests[key] = _together(rollout, found.target, tests, tests.get(key, Evidence()))
    return GateMemory(next_block=found.number + 1, tests=tests)


def blocks_of(memory: GateMemory, target: str) -> int:
    """Return how many blocks of a board have been learnt."""
    together = memory.tests.get(f"{target}/all")
    return 0 if together is None else together.steps


def control_gates(rollout: Rollout, memory: GateMemory, wave_over: bool, drawn: int = 0) -> tuple[GateStatus, ...]:
    """Return what the blocks so far say: for each board its metrics, then all of them together; then over all boards.

    Args:
        rollout: the rollout.
        memory: after the latest block.
        wave_over: the horizon of the present wave has passed.
        drawn: how many blocks the rollout has drawn; while some of them are observed, the gates wait for them.
    """
    waiting = not wave_over or memory.next_block < drawn
    found: list[GateStatus] = []
    for target in sorted({bundle.target for bundle in rollout.bundles}):
        for metric in enabled_metrics(rollout.policy):
            evidence = memory.tests.get(f"{target}/{metric}")
            if evidence is not None:
                found.append(metric_gate(rollout, target, metric, evidence, waiting=waiting))
        together = memory.tests.get(f"{target}/all")
        if together is not None:
            found.append(all_gate(rollout, target, together, waiting=waiting))
    pooled = pooled_gates(rollout, memory, left_out={halt.target for halt in rollout.halted}, waiting=waiting)
    if waiting and memory.next_block < drawn:
        pooled = _not_observed(memory, drawn, pooled)
    return (*found, *pooled)


def _together(rollout: Rollout, target: str, tests: dict[str, Evidence], before: Evidence) -> Evidence:
    """Return the mean of a board's e-values after a block. A metric that was never seen has E = 1."""
    metrics = averaged(rollout)
    if not metrics:
        return msgspec.structs.replace(before, log_wealth=(0.0,), steps=before.steps + 1)
    seen = [tests.get(f"{target}/{metric}") for metric in metrics]
    now = combine.weighted((1 / len(metrics), 0.0 if one is None else combine.log_e_now(one)) for one in seen)
    return Evidence(log_wealth=(now,), peak=max(before.peak, now), steps=before.steps + 1)


def _not_observed(memory: GateMemory, drawn: int, pooled: tuple[GateStatus, ...]) -> tuple[GateStatus, ...]:
    """Say how many blocks are to come: with what all boards say together, or by itself."""
    reason = f"{drawn - memory.next_block} of {drawn} blocks of devices and controls are still observed"
    if pooled and pooled[-1].gate == "all":
        told = f"{pooled[-1].reason}; {reason}"
        return (*pooled[:-1], msgspec.structs.replace(pooled[-1], reason=told))
    numbers: dict[str, Number] = {"blocks": memory.next_block, "drawn": drawn}
    alone = GateStatus(gate="all", target=None, outcome="wait", action=None, reason=reason, numbers=numbers)
    return (*pooled, alone)
