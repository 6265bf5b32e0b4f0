"""Experiments as data for the page: what each shows so far, metric by metric. Pure."""

from __future__ import annotations

import msgspec

from ..core.experiment import Effect, Experiment, Memory, result_of
from .chip import Chip, Tone

FINDING_TONE: dict[str, Tone] = {
    "better": "good",
    "worse": "bad",
    "guardrail_failed": "bad",
    "sample_ratio_mismatch": "warn",
    "undecided": "busy",
}


class EffectRow(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: candidate minus baseline, as a loss."""

    metric: str
    blocks: int
    estimate: str
    interval: str
    limit: str
    e_value: str


class ExperimentCard(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment."""

    id: str
    title: str
    state: str
    chip: Chip
    reason: str
    created_s: float
    ended_s: float | None
    observed: str
    effects: tuple[EffectRow, ...]


def experiment_card(experiment: Experiment, memory: Memory) -> ExperimentCard:
    """Return the card, with what the blocks so far show."""
    plan, result = experiment.plan, result_of(experiment, memory)
    ratio = result.sample_ratio
    tone = FINDING_TONE[result.finding]
    return ExperimentCard(
        id=experiment.id,
        title=f"{plan.model}: {plan.candidate} against {plan.baseline}",
        state=experiment.state,
        chip=Chip(text=result.finding.replace("_", " "), tone=tone),
        reason=result.reason,
        created_s=experiment.created_s,
        ended_s=experiment.ended_s,
        observed=(
            f"{ratio.candidate:,} {plan.unit} with the candidate, {ratio.baseline:,} with the baseline; "
            f"planned share {100 * ratio.planned_share:.0f} %"
        ),
        effects=(
            _row(result.primary, f"{result.primary.metric} (primary)"),
            *(_row(one, one.metric) for one in result.guardrails),
        ),
    )


def _row(effect: Effect, name: str) -> EffectRow:
    return EffectRow(
        metric=name,
        blocks=effect.blocks,
        estimate="–" if effect.estimate is None else f"{effect.estimate:+.3g} {effect.unit}",
        interval="–" if effect.low is None or effect.high is None else f"{effect.low:+.3g} to {effect.high:+.3g}",
        limit="–" if effect.limit is None else f"{effect.limit:g}",
        e_value=(
            "–"
            if effect.e_value is None or effect.e_threshold is None
            else f"{effect.e_value:.3g}, stops at {effect.e_threshold:.3g}"
        ),
    )
