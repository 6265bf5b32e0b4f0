"""Policies and networks drawn at random, as odd as operators and weather make them."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from .weather import Weather

END_BEHAVIORS = ("STOP_ROLLOUT", "CANCEL", "FORCE_CANCEL")
WINDOW_PERIOD_MINUTES, WINDOW_MINUTES = 20, 10
"""Of maintenance windows: in zones that are half an hour off, they are open when they are closed elsewhere."""
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")
SITES = ("site-0", "site-1", "site-2", "")


def draw_policy(chance: random.Random, *, now_s: float) -> dict[str, Any]:
    """Return a policy for a handful of devices, any of whose features may be on."""
    drawn = {
        "waves": chance.choice(
            (
                [1, 2, "rest"],
                [2, "rest"],
                ["50%", "rest"],
                ["rest"],
                [{"add": 2}, {"add": "rest", "requireApproval": True}],
                [{"add": "rest", "sites": ["site-0"]}, {"add": 1, "where": 'labels.line == "1"'}, "rest"],
            )
        ),
        "horizonSeconds": chance.choice((120, 400, 1200)),
        "offlineAfterSeconds": chance.choice((60, 600)),
        "targetSelection": chance.choice(("SNAPSHOT", "CONTINUOUS")),
        "onConflict": chance.choice(("REFUSE", "SUPERSEDE")),
        "driftGate": {"enabled": chance.random() < 0.3, "minSamples": 20},
        "failureGate": {"onInconclusive": chance.choice(("PAUSE", "CONTINUE"))},
        "control": {"fractions": chance.choice(([0.5, 0.5, 0.1], [0], [0.5]))},
        "jobExecutionsRetryConfig": {
            "criteriaList": chance.choice(([], [{"failureType": "ALL", "numberOfRetries": 2}]))
        },
        "rollback": {"target": chance.choice(("PREVIOUS", "LAST_GOOD"))},
    }
    if chance.random() < 0.3:
        drawn["blastRadius"] = {"maxDevicesPerSite": chance.choice((1, 2))}
    if chance.random() < 0.2:
        drawn["jobExecutionsRolloutConfig"] = {"maximumPerMinute": chance.choice((1, 2, 4))}
    if chance.random() < 0.3:
        drawn["schedulingConfig"] = _draw_schedule(chance, now_s)
    return drawn


def _draw_schedule(chance: random.Random, now_s: float) -> dict[str, Any]:
    def text(at_s: float) -> str:
        return datetime.fromtimestamp(at_s, UTC).isoformat()

    window = {"startTime": f"*/{WINDOW_PERIOD_MINUTES} * * * *", "durationInMinutes": WINDOW_MINUTES}
    return chance.choice(
        (
            {"maintenanceWindows": [window]},
            {"startTime": text(now_s + chance.uniform(10, 100))},
            {"endTime": text(now_s + chance.uniform(100, 400)), "endBehavior": chance.choice(END_BEHAVIORS)},
        )
    )


def draw_weather(chance: random.Random) -> Weather:
    """Return how bad the network is."""
    return Weather(
        lost=chance.choice((0.0, 0.1, 0.3)),
        repeated=chance.choice((0.0, 0.3)),
        late=chance.choice((0.0, 0.2)),
        usual_s=chance.choice((0.1, 5.0)),
        late_s=chance.choice((60.0, 1200.0)),
    )
