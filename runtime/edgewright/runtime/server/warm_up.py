"""Runs a model with every batch size before it serves: engines plan memory and choose kernels at the first run of each.

What that took is where the scheduler's latency model begins. Sizes that were not warmed up are not used for batches, so
no request is the first of its size.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edgewright.bundle.manifest import Manifest

from ..engines.protocol import Instance
from .pipeline import Tensors
from .schedule.latency_model import Point, bucket_sizes
from .schedule.runner import Runner

SINGLE_RUNS, SINGLE_S = 50, 0.2
BATCH_RUNS, BATCHES_S = 3, 0.2


def warm_up(
    instance: Instance,
    manifest: Manifest,
    row: Tensors,
    max_rows: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Point, ...]:
    """Run batches of 1, 2, 4 … rows and return the median seconds of each.

    Takes about 0.4 s at most, beside the three runs of one row that there always are; larger sizes are then left out.

    Raises:
        Exception: whatever the engine raises for one row. A larger batch that it refuses is left out.
    """
    runner = Runner(instance, manifest)

    def median_s(rows: int, least: int, most: int, end_s: float) -> float:
        times_s: list[float] = []
        while len(times_s) < least or (len(times_s) < most and clock() < end_s):
            begun_s = clock()
            runner.warm(row, rows)
            times_s.append(clock() - begun_s)
        return sorted(times_s)[len(times_s) // 2]

    runner.warm(row, 1)
    points = [(1, median_s(1, 3, SINGLE_RUNS, clock() + SINGLE_S))]
    end_s = clock() + BATCHES_S
    for rows in bucket_sizes(max_rows if runner.batchable else 1)[1:]:
        last_rows, last_s = points[-1]
        if 2 * last_s * rows / last_rows > end_s - clock():
            break
        try:
            runner.warm(row, rows)
            points.append((rows, median_s(rows, 1, BATCH_RUNS, end_s)))
        except Exception:  # noqa: BLE001 - an engine may raise anything; single rows it runs
            break
    return tuple(points)
