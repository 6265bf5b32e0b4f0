"""The sections of a rollout policy: plain data with bounds. `policy.py` reads and checks the whole."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ..observations import Metric

Action = Literal["PAUSE", "CANCEL", "ROLLBACK"]
OnInconclusive = Literal["PAUSE", "CONTINUE"]
FailureType = Literal["FAILED", "REJECTED", "TIMED_OUT", "ALL"]

Percentage = Annotated[float, msgspec.Meta(gt=0, le=100)]
Probability = Annotated[float, msgspec.Meta(gt=0, le=0.5)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0, le=366 * 86400)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=366 * 86400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Immutable, keyword-only, camelCase outside, and unknown keys are refused."""


class AbortCriterion(Strict, frozen=True, kw_only=True):
    """Stop when the share of a kind of failure among executed devices reaches a fixed threshold."""

    failure_type: FailureType
    action: Action
    threshold_percentage: Percentage
    min_number_of_executed_things: Count


class AbortConfig(Strict, frozen=True, kw_only=True):
    """Fixed thresholds, as in AWS IoT Jobs. They come on top of the gates, which need no tuning."""

    criteria_list: tuple[AbortCriterion, ...] = ()


class Wave(Strict, frozen=True, kw_only=True):
    """A wave with conditions; `10`, `"10%"` and `"rest"` are short for a wave that only has `add`."""

    add: int | str = "rest"
    """A number of devices, a share of all eligible ones (`"10%"`), or `"rest"`: all that fit."""
    boards: tuple[str, ...] = ()
    """Only these targets; empty: all."""
    sites: tuple[str, ...] = ()
    where: str = ""
    """A query (selector.py) that its devices fulfil."""
    require_approval: bool = False
    """A person says yes before this wave starts."""


class TimeoutConfig(Strict, frozen=True, kw_only=True):
    """Deadlines inside the horizon. None: only the horizon counts."""

    in_progress_timeout_in_minutes: Annotated[float, msgspec.Meta(gt=0, le=10080)] | None = None
    """From the device's first report about the update to its last."""
    queued_timeout_in_minutes: Annotated[float, msgspec.Meta(gt=0, le=10080)] | None = None
    """From the order to the device's first report."""


class RateIncreaseCriteria(Strict, frozen=True, kw_only=True):
    """After how many more devices the rate grows; exactly one of the two."""

    number_of_notified_things: Count | None = None
    number_of_succeeded_things: Count | None = None


class ExponentialRate(Strict, frozen=True, kw_only=True):
    """A rate that starts low and is multiplied each time the criterion is met; `maximumPerMinute` caps it."""

    base_rate_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    increment_factor: Annotated[float, msgspec.Meta(ge=1.1, le=5)]
    rate_increase_criteria: RateIncreaseCriteria


class RolloutConfig(Strict, frozen=True, kw_only=True):
    """How fast orders go out inside a wave."""

    maximum_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    exponential_rate: ExponentialRate | None = None


class RetryCriterion(Strict, frozen=True, kw_only=True):
    """How often an order is given again after one kind of failure."""

    failure_type: Literal["FAILED", "TIMED_OUT", "ALL"]
    number_of_retries: Annotated[int, msgspec.Meta(ge=0, le=10)]


class RetryConfig(Strict, frozen=True, kw_only=True):
    """Retries. Only the last attempt counts as a failure."""

    criteria_list: tuple[RetryCriterion, ...] = ()


class MaintenanceWindow(Strict, frozen=True, kw_only=True):
    """Orders go out only inside one of these, in the time zone of each device."""

    start_time: str
    """`cron(30 18 * * ? *)` as in AWS IoT Jobs, or five fields."""
    duration_in_minutes: Annotated[int, msgspec.Meta(ge=1, le=1430)]


class SchedulingConfig(Strict, frozen=True, kw_only=True):
    """When it starts, ends, and may give orders."""

    start_time: str | None = None
    """ISO 8601 with an offset."""
    end_time: str | None = None
    end_behavior: Literal["STOP_ROLLOUT", "CANCEL", "FORCE_CANCEL"] = "STOP_ROLLOUT"
    """At `endTime`: no more orders; or also take back unheard orders; or also those that are under way."""
    maintenance_windows: tuple[MaintenanceWindow, ...] = ()


class BlastRadius(Strict, frozen=True, kw_only=True):
    """How many devices of one site may be unproven (ordered and not succeeded, or failed) at one time."""

    max_devices_per_site: Count | None = None
    max_percentage_per_site: Percentage | None = None
    """Of the site's devices of the rollout's boards; at least one."""


class Control(Strict, frozen=True, kw_only=True):
    """Devices drawn into the early waves that keep the old release, to compare with."""

    fractions: tuple[Annotated[float, msgspec.Meta(ge=0, le=0.5)], ...] = (0.5, 0.5, 0.1)
    """Share of each wave's draw that waits, wave by wave; the last one stands for all later waves. Only devices that
    run something of this model are drawn: without an old release there is nothing to compare with."""
    observation_seconds: PositiveSeconds | None = None
    """How long after its draw a device is observed; None: `horizonSeconds`."""


class MetricLimit(Strict, frozen=True, kw_only=True):
    """How much worse than the controls one metric may be."""

    metric: Metric
    max_loss: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    """Points (percent) for shares and accuracy, percent for latency and energy, PSI for inputs and outputs; None: the
    default of the metric (gates/control.py)."""


class ControlGate(Strict, frozen=True, kw_only=True):
    """Devices on the new release against the controls drawn beside them, metric by metric, always valid."""

    enabled: bool = True
    metrics: tuple[MetricLimit, ...] = ()
    """Empty: all, with their defaults. A metric that no device reports is not tested."""
    action: Action = "ROLLBACK"
    on_inconclusive: OnInconclusive = "CONTINUE"
    """At the end of a wave whose blocks prove nothing yet."""


class RollbackConfig(Strict, frozen=True, kw_only=True):
    """Where devices go back to, and how fast."""

    target: Literal["PREVIOUS", "LAST_GOOD"] = "LAST_GOOD"
    """`PREVIOUS`: what the device ran before. `LAST_GOOD`: the same, unless the data have changed so that another
    release that was good here fits the present data better (orders/regime.py)."""
    maximum_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    max_orders_per_device_per_day: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 6
    """A device that was ordered so often is left alone for the rest of the 24 hours: no storms to and fro."""


class FailureGate(Strict, frozen=True, kw_only=True):
    """Failed installs against an absolute limit, as an always-valid test (gates/status.py)."""

    enabled: bool = True
    max_failure_percentage: Annotated[float, msgspec.Meta(gt=0, lt=100)] = 2.0
    """The share of failing devices that is still accepted."""
    unit: Literal["AUTO", "DEVICE", "SITE"] = "AUTO"
    """What counts as one failure. `SITE`: at most one per site, right where failures come in clusters. `AUTO`: SITE
    where the rollout's devices stand in at least 20 sites, else DEVICE; settled before the first order."""
    max_silent_percentage: Annotated[float, msgspec.Meta(ge=0, lt=100)] | None = None
    """Devices that may stay silent until the horizon for reasons of their own. None: as many as the controls show."""
    min_failures: Count = 3
    """Never stop on fewer failures; in a wave of fewer devices, all of them failing is enough."""
    action: Action = "ROLLBACK"
    on_inconclusive: OnInconclusive = "PAUSE"
    """At the end of a wave whose failures lean towards bad but prove nothing yet."""


class DriftGate(Strict, frozen=True, kw_only=True):
    """Outputs, errors and estimated accuracy of devices on the new release against those on the old (gates)."""

    enabled: bool = True
    alpha: Probability = 0.01
    """Chance of a false alarm, shared by all features, comparisons and looks."""
    min_samples: Count = 200
    """Samples needed on the new release before anything is concluded."""
    max_psi: Annotated[float, msgspec.Meta(gt=0, le=10)] = 0.2
    max_ks: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.15
    max_accuracy_drop_percentage: Percentage = 3.0
    """Points of estimated accuracy (from confidence) that the new release may lose against the old."""
    max_error_percentage: Percentage = 1.0
    """Points of failed requests that the new release may have more than the old."""
    action: Action = "ROLLBACK"
    on_inconclusive: OnInconclusive = "PAUSE"
    """At the horizon, when there was too little traffic to tell."""
