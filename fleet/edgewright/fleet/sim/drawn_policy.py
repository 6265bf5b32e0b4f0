"""Policies and networks drawn at random, as odd as operators and weather make them."""

from __future__ import annotations

import random
from typing import Any

from .weather import Weather


def draw_policy(chance: random.Random) -> dict[str, Any]:
    """Return a policy for a handful of devices, any of whose features may be on."""
    return {
        "waves": chance.choice(([1, 2, "rest"], [2, "rest"], ["50%", "rest"], ["rest"])),
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


def draw_weather(chance: random.Random) -> Weather:
    """Return how bad the network is."""
    return Weather(
        lost=chance.choice((0.0, 0.1, 0.3)),
        repeated=chance.choice((0.0, 0.3)),
        late=chance.choice((0.0, 0.2)),
        usual_s=chance.choice((0.1, 5.0)),
        late_s=chance.choice((60.0, 1200.0)),
    )
