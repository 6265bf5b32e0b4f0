"""What is wrong with a release, or with the world, in a rehearsal. Each is data; the fleet under it is the trace's."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..core.policy.policy import Policy

Where = Literal["everywhere", "one board"]


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One way that it may go."""

    name: str
    about: str
    is_good: bool = False
    """True where a stop would be a false one."""
    failure_percentage: float = 0.5
    """Devices on which the update fails."""
    is_at_limit: bool = False
    """Take the policy's `maxFailurePercentage` instead."""
    where: Where = "everywhere"
    """What is wrong, is wrong on all boards or only on the most common one; the others are good."""
    site_correlation: float = 0.0
    """Of failures within a site (beta-binomial rho), from 0 to below 1."""
    silent_percentage: float = 0.0
    """Devices of both arms that are never heard again, for reasons of their own."""
    crash_percentage: float = 0.0
    """Devices that crash on the new release while they are observed."""
    accuracy_loss: float = 0.0
    """Points."""
    error_loss: float = 0.0
    """Points of failed requests."""
    latency_factor: float = 1.0
    energy_factor: float = 1.0
    changed_outputs: float = 0.0
    """Share of answers that move to another class."""
    drifting_site: bool = False
    """The inputs of the largest site change while the rollout runs, whatever runs there."""
    slow_success_factor: float = 1.0
    """Successes report this much later than in the trace; failures as ever."""
    away_percentage: float = 0.0
    """Devices that are away for weeks and come back at one moment, six hours after the start."""


GOOD_FAILURES = 0.5
SCENARIOS: dict[str, Scenario] = {
    one.name: one
    for one in (
        Scenario(name="good", about="a good release: 0.5 % of the updates fail", is_good=True),
        Scenario(name="at-limit", about="as many fail as the policy accepts", is_good=True, is_at_limit=True),
        Scenario(name="bad-build", about="10 % of the updates fail", failure_percentage=10),
        Scenario(name="catastrophe", about="60 % of the updates fail", failure_percentage=60),
        Scenario(
            name="bad-board",
            about="30 % fail on the most common board, and nowhere else",
            failure_percentage=30,
            where="one board",
        ),
        Scenario(
            name="sites",
            about="as many fail as the policy accepts, but they cluster by site (rho 0.05)",
            is_good=True,
            is_at_limit=True,
            site_correlation=0.05,
        ),
        Scenario(name="crashes", about="1 device in 10 crashes on the new release", crash_percentage=10),
        Scenario(name="less-accurate", about="3 points less accurate", accuracy_loss=3, changed_outputs=0.05),
        Scenario(name="slower", about="half as slow again", latency_factor=1.5),
        Scenario(name="hungrier", about="half as much energy again", energy_factor=1.5),
        Scenario(name="more-errors", about="3 points more failed requests", error_loss=3),
        Scenario(name="site-drift", about="the data of the largest site change", is_good=True, drifting_site=True),
        Scenario(name="silent", about="5 % of all devices fall silent", is_good=True, silent_percentage=5),
        Scenario(
            name="skewed",
            about="as many fail as the policy accepts; failures report in minutes, successes ten times later",
            is_good=True,
            is_at_limit=True,
            slow_success_factor=10,
        ),
        Scenario(name="herd", about="40 % are away for weeks and come back at once", is_good=True, away_percentage=40),
    )
}


def failing_share(scenario: Scenario, policy: Policy) -> float:
    """Return the share of devices on which the update fails, from 0 to 1."""
    limit = policy.failure_gate.max_failure_percentage
    return (limit if scenario.is_at_limit else scenario.failure_percentage) / 100
