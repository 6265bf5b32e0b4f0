"""The standing monitor: judges each window of each group once, in order, and raises and clears alerts. Pure.

    state, change = observe(rule, state, Window(start_s=…, totals=…, reference=…, bins=…))

An alert is *raised* when `raiseAfter` judged windows in a row are at or above `raiseAbove` and beyond chance, and
*cleared* when `clearAfter` in a row are below `clearBelow`. In between nothing changes. A window that cannot be judged
neither counts nor interrupts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from edgewright.bundle.reference import Reference

from ..sums.windows import Totals
from .alert_rules import AlertRule
from .baselines import Learnt, baseline_at, learn
from .measures import Judged, Rows, judge, reference_sample, sample_of, samples_in


class Group(NamedTuple):
    """What a rule is applied to; empty where the rule does not tell apart."""

    board: str = ""
    site: str = ""
    release: str = ""

    def __str__(self) -> str:
        named = [f"{kind} {value}" for kind, value in zip(self._fields, self, strict=True) if value]
        return ", ".join(named) or "all devices"


class AlertState(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor remembers of one group between windows."""

    next_s: int = 0
    """Begin of the first window that was not looked at."""
    bins: str = ""
    """Name of the bins that `learnt` is counted on."""
    learnt: Learnt = {}
    above: int = 0
    """Judged windows in a row at or above the upper limit."""
    calm: int = 0
    """Judged windows in a row below the lower limit."""
    raised_s: float | None = None
    """End of the window that raised the alert; None: it is not up."""
    alert: str = ""
    """Id of the alert that is up."""
    told_s: float | None = None
    """When people were last told of an alert of this group."""
    last: Judged | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that was raised or cleared."""

    kind: Literal["raised", "cleared"]
    at_s: float
    """End of the window that decided."""
    silenced: bool
    """Noted only: people were told of this group a short while ago."""
    judged: Judged


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One group's sums over one window, all counted on the bins of one reference."""

    start_s: int
    totals: Totals
    reference: Reference
    bins: str


def observe(rule: AlertRule, state: AlertState, window: Window) -> tuple[AlertState, Change | None]:
    """Take in the next window of a group."""
    if rule.baseline != "reference" and state.bins != window.bins:
        state = msgspec.structs.replace(state, bins=window.bins, learnt={})
    rows = sample_of(rule.metric, window.totals, window.reference)
    judged = None if rows is None else _look(rule, state, window, rows)
    return advance(rule, state, window.start_s, judged, rows)


def _look(rule: AlertRule, state: AlertState, window: Window, rows: Rows) -> Judged | None:
    """Compare a window with its baseline; None with too few samples on either side."""
    if samples_in(rule.metric, rows) < rule.min_samples:
        return None
    if rule.baseline == "reference":
        baseline = reference_sample(rule.metric, window.reference)
    else:
        baseline = baseline_at(rule, state.learnt, window.start_s)
        if baseline is not None and samples_in(rule.metric, baseline) < rule.min_samples:
            return None
    return None if baseline is None else judge(rule, rows, baseline, window.reference)


def advance(
    rule: AlertRule, state: AlertState, start_s: int, judged: Judged | None, rows: Rows | None
) -> tuple[AlertState, Change | None]:
    """Return the state after a window, and the alert that it raised or cleared."""
    end_s = start_s + rule.window_seconds
    state = msgspec.structs.replace(state, next_s=end_s)
    is_above = judged is not None and judged.value >= rule.upper and judged.p_value <= rule.alpha
    if rule.baseline != "reference" and rows is not None and state.raised_s is None and not is_above:
        state = msgspec.structs.replace(state, learnt=learn(rule, state.learnt, start_s, rows))
    if judged is None:
        return state, None
    state = msgspec.structs.replace(
        state,
        last=judged,
        above=state.above + 1 if is_above else 0,
        calm=state.calm + 1 if judged.value < rule.lower else 0,
    )
    if state.raised_s is None and state.above >= rule.raise_after:
        return _raise(rule, state, end_s, judged)
    if state.raised_s is not None and state.calm >= rule.clear_after:
        silenced = state.told_s is None or state.told_s < state.raised_s  # nobody was told that it is up
        cleared = msgspec.structs.replace(state, raised_s=None, above=0, calm=0)
        return cleared, Change(kind="cleared", at_s=end_s, silenced=silenced, judged=judged)
    return state, None


def _raise(rule: AlertRule, state: AlertState, end_s: float, judged: Judged) -> tuple[AlertState, Change]:
    silenced = state.told_s is not None and end_s - state.told_s < rule.silence_seconds
    raised = msgspec.structs.replace(state, raised_s=end_s, calm=0, above=0, told_s=state.told_s if silenced else end_s)
    return raised, Change(kind="raised", at_s=end_s, silenced=silenced, judged=judged)


def message_of(rule: AlertRule, group: Group, change: Change) -> str:
    """Return one sentence for people."""
    judged = change.judged
    unit = {"errors": " points", "accuracy": " points", "labels": " points", "latency": " %"}.get(rule.metric, "")
    what = f"{rule.distance.upper()} of {judged.feature}" if rule.metric in ("inputs", "outputs") else rule.metric
    verb, limit = ("at or above", rule.upper) if change.kind == "raised" else ("below", rule.lower)
    times = rule.raise_after if change.kind == "raised" else rule.clear_after
    return (
        f"{rule.model}, {group}: {what} {judged.value:.3g}{unit} against {_BASELINE[rule.baseline]}, {verb} {limit:g} "
        f"in {times} window{'s' if times > 1 else ''} of {rule.window_seconds} s ({judged.samples} samples in the last)"
    )


_BASELINE = {
    "reference": "the bundle's reference",
    "trailing": "the past",
    "same_hour": "the same hour of earlier days",
}
