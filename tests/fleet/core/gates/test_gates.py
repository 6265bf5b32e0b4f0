"""Fixed thresholds, as in AWS IoT Jobs."""

from __future__ import annotations

import pytest

from edgewright.fleet.core.gates.status import abort_gates
from edgewright.fleet.core.outcomes import outcomes_of

from ..order_rows import order, rollout


@pytest.mark.parametrize(
    ("kind", "phases", "expected"),
    [
        ("FAILED", ["failed", "confirmed", "confirmed", None], "pass"),  # only 3 executed
        ("FAILED", ["failed", "confirmed", "confirmed", "confirmed"], "fail"),
        ("REJECTED", ["failed", "confirmed", "confirmed", "confirmed"], "pass"),
        ("REJECTED", ["refused", "confirmed", "confirmed", "confirmed"], "fail"),
        ("ALL", ["refused", "confirmed", "confirmed", "confirmed"], "fail"),
        ("ALL", ["refused"] + ["confirmed"] * 5, "pass"),  # 16.7 % is less than 20 %
        ("ALL", ["refused"] + ["confirmed"] * 4, "fail"),  # 20 % is "the minimum percentage", as AWS puts it
    ],
)
def test_abort_criteria_as_in_aws(kind: str, phases: list[str | None], expected: str) -> None:
    criterion = {
        "failureType": kind,
        "action": "CANCEL",
        "thresholdPercentage": 20,
        "minNumberOfExecutedThings": 4,
    }
    given = rollout(abortConfig={"criteriaList": [criterion]})
    orders = [order(n, phase) for n, phase in enumerate(phases)]
    (status,) = abort_gates(given, outcomes_of(given, orders, 10.0))
    assert status.outcome == expected
    assert status.action == ("CANCEL" if expected == "fail" else None)


def test_controls_are_not_executed() -> None:
    criterion = {"failureType": "ALL", "action": "PAUSE", "thresholdPercentage": 20, "minNumberOfExecutedThings": 2}
    given = rollout(abortConfig={"criteriaList": [criterion]})
    orders = [order(0, "failed"), *(order(n, None, arm="control") for n in range(1, 9))]
    (status,) = abort_gates(given, outcomes_of(given, orders, 10.0))
    assert (status.numbers["executed"], status.outcome) == (1, "pass")
