"""Keeps the database small: joins totals into hours, folds old windows, forgets what nobody asks for again.

Each step is a transaction of its own and short, so that telemetry never waits long for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .periodic import Periodic
from .store import desired, totals, windows
from .store.database import Database

PERIOD_S = 60.0
BY_WINDOW_S = 2 * 3600.0
"""Totals of this last stretch of time are kept window by window, older ones hour by hour."""
DAY_S = 86400.0
KEEP_DAYS = 7.0
ORDERS_S = 2 * DAY_S
"""The times of orders are kept for this long; limits look at those of the last day."""
SITES_DAYS = 35
"""How long the sums of each site are kept; there may be thousands of sites."""
FOLDED_AT_ONCE = 2000
STEPS_IN_A_ROUND = 20
"""A round folds up to 40,000 windows: a thousand devices make 1,000 in a period, so a backlog is soon gone."""


class Housekeeper:
    """`step` tidies up once; `start` has it done every minute from a thread of its own."""

    def __init__(
        self, database: Database, *, keep_days: float = KEEP_DAYS, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._keep_s = keep_days * DAY_S
        self._clock = clock
        self._loop = Periodic("housekeeper", lambda: self.step(self._clock()), period_s=PERIOD_S)

    def start(self) -> None:
        """Begin to tidy up."""
        self._loop.start()

    def stop(self) -> None:
        """End after the transaction that runs."""
        self._loop.stop()

    def step(self, now_s: float) -> int:
        """Tidy up and return how many windows were folded."""
        with self._database.write() as connection:
            if totals.join_hours(connection, before_s=now_s - BY_WINDOW_S):
                totals.drop_sites(connection, before_s=now_s - SITES_DAYS * DAY_S)
            totals.drop_ended(connection)
            desired.forget_orders(connection, before_s=now_s - ORDERS_S)
        folded = 0
        for _ in range(STEPS_IN_A_ROUND):
            with self._database.write() as connection:
                some = windows.fold(connection, before_s=now_s - self._keep_s, most=FOLDED_AT_ONCE)
            folded += some
            if some < FOLDED_AT_ONCE or self._loop.is_stopping:
                break
        return folded
