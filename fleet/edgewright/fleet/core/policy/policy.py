"""The rollout policy: how fast, how far, and what stops it.

Keys are spelled as in AWS IoT Jobs where it has the same thing (`abortConfig`, `timeoutConfig`,
`jobExecutionsRolloutConfig`), so that what a team already knows carries over. TOML and JSON are both read; every key
has a default that works. docs/guides/rollouts.md explains each.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from . import checks as checks
from .faults import PolicyError
from .hints import hint
from .plain import HALF_A_CHARACTER, is_writable
from .sections import (
    AbortConfig,
    BlastRadius,
    Control,
    ControlGate,
    DriftGate,
    FailureGate,
    PositiveSeconds,
    Probability,
    RetryConfig,
    RollbackConfig,
    RolloutConfig,
    SchedulingConfig,
    Seconds,
    Strict,
    TimeoutConfig,
    Wave,
)

__all__ = [
    "MAX_POLICY_BYTES",
    "Policy",
    "PolicyError",
    "parse_policy",
    "policy_from",
    "policy_to_json",
    "read_policy",
    "wave_of",
    "wave_size",
]

MAX_POLICY_BYTES = 32 * 1024


class Policy(Strict, frozen=True, kw_only=True):
    """One rollout policy."""

    alpha: Probability = 0.05
    """Highest chance of stopping a release that is within its limits, over all gates (but `driftGate` and
    `abortConfig`), boards and looks together."""
    waves: tuple[int | str | Wave, ...] = (1, "10%", "rest")
    """Devices that each wave adds: a number, a share of all eligible ones (`"10%"`, rounded up), or `"rest"` (last)."""
    group: str = ""
    """Which devices: a query (selector.py); empty: all whose board has a bundle in the release."""
    target_selection: Literal["SNAPSHOT", "CONTINUOUS"] = "SNAPSHOT"
    """`SNAPSHOT`: the devices that were enrolled when the rollout was made. `CONTINUOUS`: also those that join later,
    until another release of the model takes its place."""
    on_conflict: Literal["REFUSE", "SUPERSEDE"] = "REFUSE"
    """Where a rollout of the same model has not ended and their groups meet."""
    horizon_seconds: PositiveSeconds = 3600.0
    """A device that has not reported a result this long after its order has failed."""
    soak_seconds: Seconds = 0.0
    """A wave is watched at least this long after its last device finished."""
    offline_after_seconds: PositiveSeconds = 900.0
    """Devices not heard of for this long get no order: they would only count as failures."""
    probation_seconds: Seconds = 30.0
    """How long a device watches a new bundle before it confirms it."""
    job_executions_rollout_config: RolloutConfig = RolloutConfig()
    abort_config: AbortConfig = AbortConfig()
    timeout_config: TimeoutConfig = TimeoutConfig()
    job_executions_retry_config: RetryConfig = RetryConfig()
    scheduling_config: SchedulingConfig = SchedulingConfig()
    blast_radius: BlastRadius = BlastRadius()
    control: Control = Control()
    control_gate: ControlGate = ControlGate()
    rollback: RollbackConfig = RollbackConfig()
    failure_gate: FailureGate = FailureGate()
    drift_gate: DriftGate = DriftGate()


def parse_policy(text: str, *, kind: Literal["toml", "json"], where: str) -> Policy:
    """Return the policy in a text; `where` names it in errors.

    Raises:
        PolicyError: not TOML/JSON, unknown key, wrong type or range.
    """
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise PolicyError(f"{where}: policy of {len(text.encode())} bytes; the limit is {MAX_POLICY_BYTES}")
    try:
        data = tomllib.loads(text) if kind == "toml" else json.loads(text)
    except ValueError as error:  # also a number of more digits than Python converts
        raise PolicyError(f"{where}: not {kind.upper()}: {error}") from error
    except RecursionError as error:
        raise PolicyError(f"{where}: nested too deeply") from error
    return policy_from(data, where=where)


def read_policy(path: Path) -> Policy:
    """Return the policy in a `.toml` or `.json` file.

    Raises:
        PolicyError: the file cannot be read or does not hold a policy.
    """
    if path.suffix not in {".toml", ".json"}:
        raise PolicyError(f"{path}: a policy is a .toml or a .json file, got suffix {path.suffix!r}")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_POLICY_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: cannot read the policy: {error}") from error
    return parse_policy(text, kind="toml" if path.suffix == ".toml" else "json", where=str(path))


def policy_from(data: Any, *, where: str) -> Policy:
    """Return the policy in already parsed data (for example the body of a request).

    Raises:
        PolicyError: unknown key, wrong type or range.
    """
    if not is_writable(data):
        raise PolicyError(f"{where}: {HALF_A_CHARACTER}")
    try:
        policy = msgspec.convert(data, Policy)
    except msgspec.ValidationError as error:
        raise PolicyError(f"{where}: {hint(str(error), Policy)}") from error
    checks.check_waves(policy.waves, where)
    checks.check_group(policy.group, where)
    checks.check_pace(policy.job_executions_rollout_config, where)
    checks.check_timeouts(policy.timeout_config, policy.horizon_seconds, where)
    checks.check_retries(policy.job_executions_retry_config, where)
    checks.check_schedule(policy.scheduling_config, where)
    checks.check_control(policy.control, where)
    checks.check_control_gate(policy.control_gate, where)
    checks.check_failure_gate(policy.failure_gate, where)
    return policy


def wave_of(policy: Policy, number: int) -> Wave:
    """Return a wave with its conditions spelled out."""
    wave = policy.waves[number]
    return wave if isinstance(wave, Wave) else Wave(add=wave)


def policy_to_json(policy: Policy) -> bytes:
    """Return the policy as JSON with every key spelled out."""
    return msgspec.json.encode(policy)


def wave_size(wave: int | str, eligible: int) -> int | None:
    """Return how many devices a wave adds in a fleet of `eligible`; None is all that are left."""
    if wave == "rest":
        return None
    if isinstance(wave, int):
        return wave
    return max(1, -int(-float(wave[:-1]) * eligible // 100))
