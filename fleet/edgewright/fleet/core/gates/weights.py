"""How the chance of a false stop is shared out: each gate's weight is its share of `alpha`.

The weights add up to 1, and a gate stops at `weight * E >= 1 / alpha`. Under "the release is within its limits" each
does so with a chance of at most `weight * alpha` (Ville), so any of them does with a chance of at most `alpha`, however
they hang together.

Where tests share one clock they are averaged: those of a board against its controls move from block to block, so the
weighted mean of their e-values as they stand is an e-value again (`all` in control.py). The failure gates move in
dispatch order, and a late report changes what they said long ago; values on two clocks may not be averaged as they
stand, so between the clocks the bound is that of the union. Between boards it is the union too, since each stops by
itself.

Why most goes to the pooled failure gate: a share of one half costs it one more failed device (ln 2 against the gain of
one failure, ln(1 / 2 %) at the default limit), and it is the one that stops a catastrophe. A board's own failure gate
comes into play only where the others dilute it, and the tests against controls have hundreds of blocks to make up for
their smaller share. Of these, the test over all boards has a half: with five boards a loss of 3 points on all of them
is found within 2 000 devices in 90 % of the runs (85 % with a fifth, 92 % with two thirds), and it costs a single board
ln 2 of evidence, a tenth of what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..observations import Metric
from ..policy.policy import Policy
from ..rows import Rollout

POOLED, BOARDS, CONTROLS = 0.5, 0.2, 0.3
OVER_BOARDS = 0.5
"""Of what the comparisons with controls have: those pooled over all boards."""
METRICS: tuple[Metric, ...] = (
    "crashes",
    "silence",
    "errors",
    "latency",
    "energy",
    "accuracy",
    "labels",
    "disagreement",
    "inputs",
    "outputs",
)


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of alpha. Those of all boards and metrics together are 1."""

    pooled: float
    """Of the failure gate over all boards."""
    board: float
    """Of each board's own failure gate; 0 where the release has one board, which the pooled gate speaks for."""
    metric: float
    """Of one metric of one board against the controls."""
    pooled_metric: float = 0.0
    """Of one metric over all boards (over_boards.py); 0 where the release has one board."""


def weights_of(rollout: Rollout) -> Weights:
    """Return the weights of a rollout's gates. They hang on its policy and boards alone, never on outcomes."""
    boards = max(1, len(rollout.bundles))
    metrics = sum(metric != "inputs" for metric in enabled_metrics(rollout.policy))
    pooled, single, controls = (POOLED, BOARDS, CONTROLS) if boards > 1 else (POOLED + BOARDS, 0.0, CONTROLS)
    if not rollout.policy.failure_gate.enabled:
        pooled = single = 0.0
    if not metrics:
        controls = 0.0
    whole = pooled + single + controls or 1.0
    over_boards = OVER_BOARDS if rollout.gate_design >= 2 and boards > 1 else 0.0
    of_metric = controls / whole / metrics if metrics else 0.0
    return Weights(
        pooled=pooled / whole,
        board=single / whole / boards,
        metric=(1 - over_boards) * of_metric / boards,
        pooled_metric=over_boards * of_metric,
    )


def enabled_metrics(policy: Policy) -> Sequence[Metric]:
    """Return the metrics that are tested against the controls. `inputs` is one that warns only, and weighs nothing."""
    gate = policy.control_gate
    if not gate.enabled:
        return ()
    return tuple(dict.fromkeys(one.metric for one in gate.metrics)) or METRICS
