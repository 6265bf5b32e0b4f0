"""A/B experiments: two releases of one model beside each other, on devices or on requests, and what they show so far.

`devices`: a seeded hash draws devices in blocks; in each, some get the candidate and the others keep the baseline. A
block enters once, when all its devices were observed for the same time. `requests`: the devices themselves deal their
requests out to both releases (a split route); each window of a device in which both answered is a block of its own. So
in both cases a block compares what chance alone told apart, blocks enter in an order that no outcome has a say in, and
one may look after every block.

- The **primary metric** has an interval that holds at all times at once: the experiment is decided when it leaves 0.
- **Guardrails** may get worse by a limit at most; the tests are those of the control gates (gates/comparisons.py).
- A **sample ratio** that is not the planned one says that an arm loses units: then nothing else is believed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from .gates.comparisons import COMPARISONS
from .observations import Block, Evidence, Metric
from .policy.policy import Policy
from .policy.sections import Control, MetricLimit
from .rows import ReleaseBundle, Rollout
from .sequential import combine, sample_ratio
from .sequential.intervals import interval

Unit = Literal["devices", "requests"]
State = Literal["running", "stopped", "promoted"]
Finding = Literal["sample_ratio_mismatch", "guardrail_failed", "better", "worse", "undecided"]
METRICS: Final[tuple[Metric, ...]] = ("errors", "latency", "energy", "accuracy", "labels", "crashes", "silence")
OF_DEVICES_ONLY: Final[frozenset[Metric]] = frozenset({"crashes", "silence"})
"""A crash or a silence is a device's: it cannot be put down to one of two releases that run on it."""
RATIOS: Final[frozenset[Metric]] = frozenset({"latency", "energy"})
SAMPLE_RATIO_ALPHA: Final = 0.001
"""Low, as a false alarm throws away a whole experiment (Fabijan et al. 2019)."""

MIN_BLOCKS: Final = 30
"""Before that the interval, which rests on the central limit theorem, decides nothing."""

Share = Annotated[float, msgspec.Meta(ge=0.05, le=0.95)]


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person settles before the first unit is drawn."""

    model: str
    baseline: str
    candidate: str
    unit: Unit = "devices"
    primary: Metric = "errors"
    guardrails: tuple[MetricLimit, ...] = ()
    share: Share = 0.5
    """Of the units that get the candidate; for requests it has to be that of the split route."""
    where: str = ""
    """A query (policy/selector.py) that the devices fulfil."""
    observation_s: Annotated[float, msgspec.Meta(ge=60, le=366 * 86400)] = 86400.0
    """How long each device is observed; requests have no use for it."""
    alpha: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.05


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment, as it is stored."""

    id: str
    plan: Plan
    baseline: tuple[ReleaseBundle, ...]
    candidate: tuple[ReleaseBundle, ...]
    seed: int
    created_s: float
    state: State = "running"
    ended_s: float | None = None
    reason: str = ""
    rollout: str | None = None
    """That a promotion has made."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """All that an experiment has learnt."""

    next_block: int = 0
    learnt_until_s: float = 0.0
    """Windows that begin before this time have entered (requests)."""
    effects: dict[Metric, Evidence] = {}
    """Sums of each metric's differences: candidate minus baseline; of the logarithms for ratios."""
    tests: dict[Metric, Evidence] = {}
    """Of the guardrails."""
    counts: tuple[int, int] = (0, 0)
    """Units that were observed: with the candidate, with the baseline."""
    planned: tuple[int, int] = (0, 0)
    """Devices that were drawn for the same blocks."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One metric so far, as a loss of the candidate: below 0 it is better than the baseline."""

    metric: Metric
    unit: str
    blocks: int
    estimate: float | None
    low: float | None
    high: float | None
    limit: float | None = None
    """Of a guardrail."""
    e_value: float | None = None
    e_threshold: float | None = None
    failed: bool = False


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True):
    """Units that were observed, against the plan."""

    candidate: int
    baseline: int
    planned_share: float
    e_value: float
    e_threshold: float
    mismatch: bool


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What an experiment shows now; it may be asked for at any time."""

    finding: Finding
    reason: str
    primary: Effect
    guardrails: tuple[Effect, ...]
    sample_ratio: SampleRatio


def faults_of(plan: Plan) -> str | None:
    """Say what is wrong with a plan, or None."""
    chosen = [plan.primary, *[one.metric for one in plan.guardrails]]
    if plan.baseline == plan.candidate:
        return f"baseline and candidate are both {plan.baseline}: an experiment compares two releases"
    for metric in chosen:
        if metric not in METRICS:
            return f"{metric} cannot be compared in an experiment; these can: {', '.join(METRICS)}"
        if plan.unit == "requests" and metric in OF_DEVICES_ONLY:
            return f"{metric} belongs to a device and not to a request: use unit devices, or another metric"
    if len(set(chosen)) < len(chosen):
        return "a metric is named twice among the primary metric and the guardrails"
    return None


def as_rollout(experiment: Experiment) -> Rollout:
    """Return the experiment in the form in which arms are drawn and observed (orders/arms.py, gates/control.py)."""
    plan = experiment.plan
    control = Control(fractions=(1 - plan.share,), observation_seconds=plan.observation_s)
    return Rollout(
        id=experiment.id,
        model=plan.model,
        version=plan.candidate,
        bundles=experiment.candidate,
        policy=Policy(waves=("rest",), group=plan.where, control=control),
        seed=experiment.seed,
        created_s=experiment.created_s,
        wave=0,
    )


def learn(experiment: Experiment, memory: Memory, blocks: Sequence[Block]) -> Memory:
    """Return the memory after these blocks, in their order."""
    plan = experiment.plan
    limits = {one.metric: one.max_loss for one in plan.guardrails}
    for block in blocks:
        effects, tests = dict(memory.effects), dict(memory.tests)
        for metric in (plan.primary, *limits):
            values = COMPARISONS[metric].values(block)
            if not values:
                continue
            effects[metric] = _added(effects.get(metric, Evidence()), _difference(metric, block, values))
            if metric in limits:
                limit = COMPARISONS[metric].limit(limits[metric])
                tests[metric] = COMPARISONS[metric].advance(tests.get(metric, Evidence()), values, limit)
        memory = Memory(
            next_block=memory.next_block + 1,
            learnt_until_s=memory.learnt_until_s,
            effects=effects,
            tests=tests,
            counts=_plus(memory.counts, _observed(plan.unit, block)),
            planned=_plus(memory.planned, _drawn(block)),
        )
    return memory


def result_of(experiment: Experiment, memory: Memory) -> Result:
    """Return what the blocks so far show."""
    plan = experiment.plan
    ratio = _sample_ratio(plan, memory)
    primary = _effect(plan.primary, memory.effects.get(plan.primary, Evidence()), plan.alpha)
    guardrails = tuple(_guardrail(one, memory, plan.alpha / len(plan.guardrails)) for one in plan.guardrails)
    finding, reason = _finding(primary, guardrails, ratio)
    return Result(finding=finding, reason=reason, primary=primary, guardrails=guardrails, sample_ratio=ratio)


def _finding(primary: Effect, guardrails: Sequence[Effect], ratio: SampleRatio) -> tuple[Finding, str]:
    failed = [one.metric for one in guardrails if one.failed]
    if ratio.mismatch:
        share = ratio.candidate / (ratio.candidate + ratio.baseline)
        return "sample_ratio_mismatch", (
            f"{share:.1%} of the observed units had the candidate, {ratio.planned_share:.1%} were planned: "
            "one arm loses units, so nothing can be compared"
        )
    if failed:
        return "guardrail_failed", f"worse than allowed: {', '.join(failed)}"
    if primary.low is None or primary.high is None or primary.blocks < MIN_BLOCKS:
        return "undecided", f"{primary.blocks} blocks so far"
    amount = f"{primary.estimate:+.3g} {primary.unit} ({primary.low:+.3g} to {primary.high:+.3g})"
    if primary.high < 0:
        return "better", f"{primary.metric} is better with the candidate: {amount}"
    if primary.low > 0:
        return "worse", f"{primary.metric} is worse with the candidate: {amount}"
    return "undecided", f"{primary.metric}: {amount}"


def _difference(metric: Metric, block: Block, values: Sequence[float]) -> float:
    """Return candidate minus baseline of one block."""
    if metric in RATIOS:
        # Of arms of unlike size, only means of the same thing differ by nothing on average: here, of logarithms.
        return _mean_log(metric, block, is_treated=True) - _mean_log(metric, block, is_treated=False)
    if metric in OF_DEVICES_ONLY:
        treated = [event for arm, event in zip(values[::2], values[1::2], strict=True) if arm]
        control = [event for arm, event in zip(values[::2], values[1::2], strict=True) if not arm]
        return sum(treated) / len(treated) - sum(control) / len(control) if treated and control else 0.0
    return values[0]


def _mean_log(metric: Metric, block: Block, *, is_treated: bool) -> float:
    """Return the mean logarithm of an arm's cost of a request; what took less than a millionth counts as that."""
    logs = []
    for one in block.observations:
        total, count = (
            (one.latency_us_sum, one.requests) if metric == "latency" else (one.energy_uj_sum, one.energy_requests)
        )
        if one.is_treated == is_treated and count:
            logs.append(math.log(max(total / count, 1e-6)))
    return sum(logs) / len(logs)


def _added(evidence: Evidence, value: float) -> Evidence:
    return Evidence(
        steps=evidence.steps + 1,
        total=evidence.total + value,
        total_squared=evidence.total_squared + value * value,
    )


def _effect(metric: Metric, evidence: Evidence, alpha: float) -> Effect:
    around = interval(evidence.steps, evidence.total, evidence.total_squared, alpha)
    # A spread of nothing is no certainty: all blocks may have been alike by chance, as errors often are.
    if around is None or around.low == around.high:
        around = None
    estimate = evidence.total / evidence.steps if evidence.steps else None
    return Effect(
        metric=metric,
        unit="%" if metric in RATIOS else "points",
        blocks=evidence.steps,
        estimate=None if estimate is None else _for_people(metric, estimate),
        low=None if around is None else _for_people(metric, around.low),
        high=None if around is None else _for_people(metric, around.high),
    )


def _for_people(metric: Metric, value: float) -> float:
    return 100 * math.expm1(min(value, 50.0)) if metric in RATIOS else 100 * value


def _guardrail(given: MetricLimit, memory: Memory, alpha: float) -> Effect:
    test = memory.tests.get(given.metric, Evidence())
    effect = _effect(given.metric, memory.effects.get(given.metric, Evidence()), alpha)
    comparison = COMPARISONS[given.metric]
    return msgspec.structs.replace(
        effect,
        limit=comparison.default_loss if given.max_loss is None else given.max_loss,
        e_value=math.exp(min(combine.log_e(test), 690.0)),
        e_threshold=1 / alpha,
        failed=combine.log_e(test) >= math.log(1 / alpha),
    )


def _sample_ratio(plan: Plan, memory: Memory) -> SampleRatio:
    share = plan.share
    if plan.unit == "devices" and all(memory.planned):
        share = memory.planned[0] / sum(memory.planned)  # the last blocks of a draw may be smaller
    log_e = sample_ratio.log_e_value(memory.counts, (share, 1 - share)) if sum(memory.counts) else 0.0
    return SampleRatio(
        candidate=memory.counts[0],
        baseline=memory.counts[1],
        planned_share=share,
        e_value=math.exp(min(log_e, 690.0)),
        e_threshold=1 / SAMPLE_RATIO_ALPHA,
        mismatch=log_e >= math.log(1 / SAMPLE_RATIO_ALPHA),
    )


def _observed(unit: Unit, block: Block) -> tuple[int, int]:
    counts = [0, 0]
    for one in block.observations:
        counts[not one.is_treated] += one.requests if unit == "requests" else one.heard
    return counts[0], counts[1]


def _drawn(block: Block) -> tuple[int, int]:
    treated = sum(one.is_treated for one in block.observations)
    return treated, len(block.observations) - treated


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
