"""The alert about unknown time zones: once, short, and only where it matters."""

from __future__ import annotations

from typing import Any

from edgewright.fleet.core.orders.zone_alert import zone_alert
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import Device, ReleaseBundle, Rollout

WINDOWS = {"schedulingConfig": {"maintenanceWindows": [{"startTime": "0 2 * * *", "durationInMinutes": 60}]}}


def rollout(policy: dict[str, Any], **told: Any) -> Rollout:
    return Rollout(
        id="r1",
        model="m",
        version="2",
        bundles=(ReleaseBundle(target="x", digest="new"),),
        policy=policy_from(policy, where="test"),
        seed=1,
        created_s=0.0,
        **told,
    )


def device(number: int, zone: str, board: str = "x") -> Device:
    return Device(
        id=f"dev-{number}",
        target=board,
        last_seen_s=0.0,
        version="1",
        bundle="old",
        idle=True,
        reported_s=0.0,
        time_zone=zone,
    )


def test_it_names_a_few_zones_however_many_there_are() -> None:
    alert = zone_alert(rollout(WINDOWS), [device(number, f"Mars/{number}" + "x" * 500) for number in range(1000)])
    assert alert is not None
    assert len(alert.message) < 800
    assert alert.numbers == {"devices": 1000, "zones": 1000}


def test_it_says_which_device_and_how_to_mend_it() -> None:
    alert = zone_alert(rollout(WINDOWS), [device(0, "UTC"), device(1, "Mars/Olympus"), device(2, "Pluto", "y")])
    assert alert is not None
    assert "1 of 3 devices" in alert.message
    assert "('Mars/Olympus')" in alert.message
    assert "device set dev-1 --time-zone" in alert.message


def test_it_is_silent_where_zones_do_not_matter_are_known_or_were_told_before() -> None:
    odd = [device(0, "Mars/Olympus")]
    assert zone_alert(rollout({}), odd) is None
    assert zone_alert(rollout(WINDOWS), [device(0, "Europe/Paris")]) is None
    assert zone_alert(rollout(WINDOWS), [device(0, "Mars/Olympus", "y")]) is None
    assert zone_alert(rollout(WINDOWS, alerts=("unknown-zone/r1",)), odd) is None
