"""Must be true 5: what has to hold holds over the whole lives of 1,000 fleets in which everything goes wrong.

Each seed is a fleet of eight devices, and up to two that join, with the real store, ingest, monitor and two reconcilers
in virtual time (edgewright.fleet.sim.chaos): messages lost, doubled, late and out of order, servers killed around
commits, clocks that jump, power cuts, weeks of silence; approvals, retries, experiments, alert rules with hooks,
devices that move, emergency stops, floors that rise. A seed whose life breaks a promise is named with the command that
shows it again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from rich.progress import track

from edgewright.fleet.sim.chaos import FailedLife, live
from edgewright.fleet.sim.life import Life

SEEDS, QUICK_SEEDS = 1000, 40
PROCESSES = 2
LIMITS = {"seeds_failed": 0.0}


def measure(quick: bool) -> dict[str, Any]:
    """Live them all; two processes."""
    seeds = QUICK_SEEDS if quick else SEEDS
    started_s = time.perf_counter()
    with ProcessPoolExecutor(PROCESSES) as pool:
        lives = list(track(pool.map(_live, range(seeds), chunksize=4), description="chaos", total=seeds))
    ended = [one for one in lives if isinstance(one, Life)]
    failed = [one for one in lives if isinstance(one, str)]
    states = Counter(state for one in ended for state in one.states)
    return {
        "seeds": seeds,
        "seeds_failed": len(failed),
        "failed": failed[:20],
        "events": sum(one.events for one in ended),
        "transactions": sum(one.transactions for one in ended),
        "kills": sum(one.kills for one in ended),
        "interferences": sum(one.interferences for one in ended),
        "orders_applied": sum(one.orders for one in ended),
        "alerts_raised": sum(one.alerts for one in ended),
        "hooks_called": sum(one.hooks for one in ended),
        "experiments": sum(one.experiments for one in ended),
        "decisions_explained": sum(one.decisions for one in ended),
        "requests_counted": sum(one.requests for one in ended),
        "rollouts_ended_as": dict(sorted(states.items())),
        "seconds": round(time.perf_counter() - started_s, 1),
    }


def _live(seed: int) -> Life | str:
    logging.disable(logging.WARNING)  # thousands of alerts
    try:
        return live(seed)
    except FailedLife as failed:
        return str(failed)
