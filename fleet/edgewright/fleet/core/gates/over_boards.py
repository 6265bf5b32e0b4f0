"""The boards' comparisons with their controls as one: a small loss on all boards shows here long before on any of them.

The rollout has one order of blocks, and each block is of one board. So a metric's bets of all boards are one game: what
a bet has won on all blocks is the product of what it won on each board's, and the mean of these products over the bets
is an e-process in the order of the blocks. Nothing has to be kept for it: it is computed from what the boards' tests
know. It is stratified by construction, as nobody is compared with a device of another board.

**The null** under which it reaches 1 / alpha with a chance of at most alpha: at every block, given all blocks before,
the expected loss of *its* board is within the limit (for events: the odds ratio; for times: the chance to be above the
limit is at most a half). Boards may differ in everything, in their share of the blocks too. It is not the null that the
*mean* over the boards is within the limit: one board above it makes it untrue.

**Whose loss?** The proof is the rollout's only if it does not hang on one board: without any single one of them, the
others still reach the root of the threshold, half of the way there. Otherwise that board's own tests have the say, and
the others go on. Where one board alone is bad, the others reach that root with a chance of at most 1 / root, whatever
that board does.

Boards that were halted no longer speak for it, as in the pooled failure gate, but still speak against it: each of their
bets counts as what it has won or as 1, whichever is less. So E is at most that of the other boards alone, which is the
right one where the halted boards were bad, and at most that with any of the halted ones, which is the right one where
these were good: the bound holds whatever they were halted for. Simply leaving them out would not do. Who takes out the
boards that speak best of the release raises E, and in a fair game one may not choose afterwards which rounds count.

What counts is E as it stands, not its peak: a peak with a board that is left out by now would be no proof about the
others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import msgspec

from ..observations import Evidence, GateMemory, Metric
from ..rows import Rollout
from ..sequential import combine, mixture
from .comparison_status import all_gate, averaged, metric_gate
from .status import GateStatus
from .weights import enabled_metrics, weights_of

LEFT_OUT = "left_out"
"""Names the number of a status that lists the boards that were halted by then, which may only lower its E."""
HALF_WAY = 0.5
"""Of the logarithm of the threshold, which the other boards must reach without the one that has most of the proof."""

_Boards = Mapping[str, Evidence]
_Halted = Mapping[Metric, Collection[Evidence]]


def pooled_gates(
    rollout: Rollout, memory: GateMemory, *, left_out: Collection[str], waiting: bool
) -> tuple[GateStatus, ...]:
    """Return what the blocks of all boards say together: each metric, then all of them.

    Nothing for a rollout that has no share of alpha for it, and where fewer than two boards are left or had a block.

    Args:
        rollout: the rollout.
        memory: after the latest block.
        left_out: boards that were halted: they can only speak against a proof.
        waiting: more is observed, which may still change the answer.
    """
    boards = [bundle.target for bundle in rollout.bundles if bundle.target not in left_out]
    boards = sorted(target for target in boards if f"{target}/all" in memory.tests)
    if not weights_of(rollout).pooled_metric or len(boards) < 2:
        return ()
    tests = {metric: _tests_of(memory, boards, metric) for metric in enabled_metrics(rollout.policy)}
    halted = {metric: [*_tests_of(memory, left_out, metric).values()] for metric in tests}
    found = []
    for metric, of_boards in tests.items():
        if metric == "inputs" or not of_boards:  # inputs stop nothing: their boards warn
            continue
        status = metric_gate(rollout, None, metric, pooled(of_boards.values(), halted[metric]), waiting=waiting)
        without = partial(_without, {metric: of_boards}, halted, [metric])
        found.append(_blamed(status, boards, without, waiting=waiting))
    metrics = averaged(rollout)
    if metrics:
        now = _mean(tests, halted, metrics)
        together = Evidence(log_wealth=(now,), peak=now, steps=sum(_steps(memory, one) for one in boards))
        status = all_gate(rollout, None, together, waiting=waiting)
        found.append(_blamed(status, boards, partial(_without, tests, halted, metrics), waiting=waiting))
    return tuple(_told(status, left_out) for status in found)


def pooled(tests: Collection[Evidence], halted: Collection[Evidence] = ()) -> Evidence:
    """Return one test's evidence over several boards as it stands; its peak is its E now.

    Args:
        tests: of the boards that go on.
        halted: of those that do not; they can only lower E.
    """
    against = [tuple([min(0.0, ln) for ln in one.log_wealth]) for one in halted]
    wealth = tuple(map(math.fsum, zip(*[one.log_wealth for one in tests], *against, strict=True)))
    learnt = [one.learnt for one in tests]
    has_like_bins = len({len(one) for one in learnt}) == 1
    return Evidence(
        log_wealth=wealth,
        peak=mixture.log_mean_exp(wealth) if wealth else 0.0,
        steps=sum(one.steps for one in tests),
        total=math.fsum(one.total for one in tests),
        total_squared=math.fsum(one.total_squared for one in tests),
        learnt=tuple(map(math.fsum, zip(*learnt, strict=True))) if has_like_bins else (),
    )


def _tests_of(memory: GateMemory, boards: Collection[str], metric: Metric) -> _Boards:
    found = {target: memory.tests.get(f"{target}/{metric}") for target in boards}
    return {target: one for target, one in found.items() if one is not None}


def _steps(memory: GateMemory, target: str) -> int:
    return memory.tests[f"{target}/all"].steps


def _mean(tests: Mapping[Metric, _Boards], halted: _Halted, metrics: Sequence[Metric]) -> float:
    """Return ln of the mean of the metrics' e-values over these boards; one that was never seen has E = 1."""
    e_values = [combine.log_e_now(pooled(tests[metric].values(), halted[metric])) for metric in metrics]
    return combine.weighted((1 / len(metrics), log_e) for log_e in e_values)


def _without(tests: Mapping[Metric, _Boards], halted: _Halted, metrics: Sequence[Metric], board: str) -> float:
    others = {metric: {target: one for target, one in tests[metric].items() if target != board} for metric in metrics}
    return _mean(others, halted, metrics)


def _blamed(status: GateStatus, boards: Sequence[str], without: Callable[[str], float], *, waiting: bool) -> GateStatus:
    """Let a proof that hangs on one board stop nothing: that board's own tests have the say."""
    if status.outcome != "fail":
        return status
    rest, board = min((without(target), target) for target in boards)
    half_way = HALF_WAY * math.log(float(str(status.numbers["e_threshold"])))
    numbers = status.numbers | {"without": board, "e_value_without": math.exp(min(rest, 690.0))}
    if rest >= half_way:
        return msgspec.structs.replace(status, numbers=numbers)
    return msgspec.structs.replace(
        status,
        outcome="wait" if waiting else "pass",
        action=None,
        numbers=numbers,
        reason=f"{status.reason}; it hangs on {board}, whose own tests have the say",
    )


def _told(status: GateStatus, left_out: Collection[str]) -> GateStatus:
    if not left_out:
        return status
    return msgspec.structs.replace(status, numbers=status.numbers | {LEFT_OUT: " ".join(sorted(left_out))})
