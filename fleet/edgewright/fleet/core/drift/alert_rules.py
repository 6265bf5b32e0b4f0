"""Alert rules: what is watched, against what, when people are told, what is started then. Plain data with bounds."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Annotated, Any, Literal

import msgspec

from ...faults import FleetError
from ..policy.plain import HALF_A_CHARACTER, is_writable
from ..policy.sections import Count, PositiveSeconds, Probability, Seconds, Strict

MAX_RULE_BYTES = 64 * 1024
HOUR_S = 3600
MAX_ARGUMENTS = 64

AlertMetric = Literal["inputs", "outputs", "errors", "latency", "accuracy", "labels"]
"""`inputs`, `outputs`: the distance of the feature that moved most. `errors`: percentage points of failed requests.
`latency`: percent of mean latency. `accuracy`: points of accuracy lost, estimated from confidence. `labels`: points of
accuracy lost, by the labels that came back."""

Distance = Literal["psi", "ks", "js"]
Split = Literal["board", "site", "release"]
BaselineKind = Literal["reference", "trailing", "same_hour"]

DEFAULT_LIMIT: dict[AlertMetric, float] = {
    "inputs": 0.2,
    "outputs": 0.2,
    "errors": 1.0,
    "latency": 20.0,
    "accuracy": 3.0,
    "labels": 3.0,
}
_PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
Argument = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
Argv = Annotated[tuple[Argument, ...], msgspec.Meta(min_length=1, max_length=MAX_ARGUMENTS)]


class RuleError(FleetError):
    """An alert rule that cannot be used."""


class Webhook(Strict, frozen=True, kw_only=True):
    """Send the alert as JSON by POST, signed (docs/guides/drift.md)."""

    url: Annotated[str, msgspec.Meta(max_length=2000)]
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0


class CommandHook(Strict, frozen=True, kw_only=True):
    """Run a program with the alert as JSON on its standard input. No shell."""

    argv: Argv
    """The first is the name of a file in the fleet's `hooks` directory: who may write there may run programs."""
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 60.0


class OnDrift(Strict, frozen=True, kw_only=True):
    """Run a program that makes a better release, and propose what it leaves."""

    argv: Argv
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=7 * 86400)] = 6 * 3600.0
    require_approval: bool = True
    """A person says yes before the first wave. False: the rollout starts by its policy."""
    policy: dict[str, Any] = msgspec.field(default_factory=dict)
    """Of the rollout; what is left out takes its default."""
    min_interval_seconds: PositiveSeconds = 86400.0
    """At most one run of this rule in this time, whatever the alerts."""


class AlertRule(Strict, frozen=True, kw_only=True):
    """One rule. It is applied to every group that `by` makes, each with an alert of its own."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    metric: AlertMetric
    distance: Distance = "psi"
    """For `inputs` and `outputs`."""
    by: tuple[Split, ...] = ("board", "release")
    baseline: BaselineKind = "reference"
    """`reference`: what came with the bundle. `trailing`: the past, older windows counting less; follows slow change.
    `same_hour`: the same hour (UTC) of earlier days. The last two learn from calm windows only, so a jump is not
    learnt and they stand still while the alert is up."""
    half_life_hours: Annotated[float, msgspec.Meta(gt=0, le=8784)] = 168.0
    """After this time the past counts half; for `trailing` and `same_hour`."""
    window_seconds: Annotated[int, msgspec.Meta(ge=10, le=7 * 86400)] = HOUR_S
    """Each window is judged once. A divisor of 3600 or a multiple of it."""
    grace_seconds: Seconds = 120.0
    """How long after its end a window is judged: telemetry that comes later is counted, but no longer judged here."""
    raise_above: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    """None: 0.2 for distances, 1 point of errors, 20 % of latency, 3 points of accuracy and of labels."""
    raise_after: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    """Windows in a row at or above `raise_above`."""
    clear_below: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    """None: half of `raise_above`."""
    clear_after: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    """Windows in a row below `clear_below`."""
    min_samples: Count = 200
    """A window with fewer is not judged: it neither counts nor interrupts."""
    alpha: Probability = 0.001
    """A window is above only if chance alone would hardly (less often than this) give such a difference."""
    silence_seconds: Seconds = 0.0
    """After people were told of an alert, a further one of the same group is only noted for this long."""
    webhook: Webhook | None = None
    command: CommandHook | None = None
    on_drift: OnDrift | None = None

    @property
    def upper(self) -> float:
        """The limit from which a window counts as above."""
        return DEFAULT_LIMIT[self.metric] if self.raise_above is None else self.raise_above

    @property
    def lower(self) -> float:
        """The limit below which a window counts as calm."""
        return self.upper / 2 if self.clear_below is None else self.clear_below


def parse_rule(text: str, *, kind: Literal["toml", "json"], where: str) -> AlertRule:
    """Return the rule in a text; `where` names it in errors.

    Raises:
        RuleError: not TOML/JSON, unknown key, wrong type or range.
    """
    return rule_from(parse_table(text, kind=kind, where=where), where=where)


def parse_table(text: str, *, kind: Literal["toml", "json"], where: str) -> Any:
    """Return the plain data in a text.

    Raises:
        RuleError: not TOML/JSON, or too long.
    """
    if len(text.encode()) > MAX_RULE_BYTES:
        raise RuleError(f"{where}: rule of {len(text.encode())} bytes; the limit is {MAX_RULE_BYTES}")
    try:
        return tomllib.loads(text) if kind == "toml" else json.loads(text)
    except ValueError as error:
        raise RuleError(f"{where}: not {kind.upper()}: {error}") from error
    except RecursionError as error:
        raise RuleError(f"{where}: nested too deeply") from error


def rule_from(data: Any, *, where: str) -> AlertRule:
    """Return the rule in already parsed data.

    Raises:
        RuleError: unknown key, wrong type or range, or parts that do not fit together.
    """
    if not is_writable(data):
        raise RuleError(f"{where}: {HALF_A_CHARACTER}")
    try:
        rule = msgspec.convert(data, AlertRule)
    except msgspec.ValidationError as error:
        raise RuleError(f"{where}: {error}; docs/guides/drift.md says what a rule holds") from error
    for complaint in _complaints(rule):
        raise RuleError(f"{where}: {complaint}")
    return rule


def _complaints(rule: AlertRule) -> list[str]:
    found = []
    if HOUR_S % rule.window_seconds and rule.window_seconds % HOUR_S:
        found.append(f"windowSeconds is {rule.window_seconds}; expected a divisor of 3600, or a multiple of it")
    if rule.window_seconds < HOUR_S < rule.window_seconds + rule.grace_seconds:
        found.append(f"graceSeconds is {rule.grace_seconds:g}; with windowSeconds it may be 3600 together")
    if rule.lower > rule.upper:
        found.append(f"clearBelow ({rule.lower:g}) is above raiseAbove ({rule.upper:g}), so it would never rest")
    if rule.baseline == "same_hour" and rule.window_seconds > HOUR_S:
        found.append('baseline "same_hour" needs windowSeconds of at most 3600')
    if rule.baseline == "reference" and rule.metric == "latency":
        found.append('a bundle says nothing of latency in the field: use baseline "trailing" or "same_hour"')
    if len(set(rule.by)) != len(rule.by):
        found.append(f"by names something twice: {', '.join(rule.by)}")
    found.extend(
        f"argv: {hook.argv[0][:100]!r} is not the name of a file in the fleet's hooks directory (no path, no shell)"
        for hook in (rule.command, rule.on_drift)
        if hook is not None and _PROGRAM.fullmatch(hook.argv[0]) is None
    )
    return found
