"""The fleet server in virtual time: real store, ingest and reconcilers.

They may be interrupted between any read and write, and killed before, within or after any commit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection

from ..alerting import Alerting
from ..artifacts import Artifacts
from ..experimenting import Experimenting
from ..hooks.worker import HookWorker
from ..housekeeping import Housekeeper
from ..ingest.downlink import Downlink, Postbox
from ..ingest.recorder import Arrival, Recorder
from ..monitoring import Monitor
from ..reconciler import Reconciler
from ..service import Fleet
from ..store.database import Database
from .device import Message
from .events import Events

Moment = Literal["before", "within", "after"]
"""Of a transaction: before it begins, before its commit, after its commit."""
KEEP_DAYS = 0.01
"""Windows are folded after a quarter of an hour, so that late records meet folded ones."""


_COMPILED: dict[Any, Any] = {}
"""SQL of statements, kept through all lives of a process: each opens the database a few times."""


class Killed(BaseException):
    """The server's process ends here. Not an `Exception`: nothing can catch a kill -9."""


class WatchedDatabase(Database):
    """Calls `at` around each transaction that writes; what `at` raises comes out of the transaction."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._engine = self._engine.execution_options(compiled_cache=_COMPILED)

    at: Callable[[Moment, Connection | None], None] = staticmethod(lambda _moment, _connection: None)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, as ever, with three moments at which the world can interfere."""
        self.at("before", None)
        with super().write() as connection:
            yield connection
            self.at("within", connection)
        self.at("after", None)


class Servers:
    """One database with an ingest and two reconcilers, each with a run number of its own, as two processes have."""

    def __init__(
        self, directory: Path, downlink: Downlink, events: Events, *, chance: random.Random, reconcilers: int = 2
    ) -> None:
        self._directory = directory
        self._downlink = downlink
        self._events = events
        self._chance = chance
        self._count = reconcilers
        self.runs = 0
        self.is_up = False
        self.start()

    def start(self) -> None:
        """Open the database and begin with empty caches."""
        self.runs += 1
        self.database = WatchedDatabase(self._directory)
        self.fleet = Fleet(
            self.database,
            Artifacts(self._directory / "artifacts"),
            now=self._events,
            random_bits=self._chance.getrandbits,
        )
        self.recorder = Recorder(self.database, tenant=self.fleet.tenant)
        self.postbox = self._postbox("ingest")
        self.reconcilers = [
            Reconciler(
                self.database,
                self._postbox(f"reconciler-{number}"),
                telemetry_revision=lambda: self.recorder.counts["records"],
                stopwatch=lambda: 0.0,
            )
            for number in range(self._count)
        ]
        self.monitor = Monitor(self.database, clock=self._events)
        self.hooks = HookWorker(self.fleet, clock=self._events)
        self.alerting = Alerting(self.fleet)
        self.experimenting = Experimenting(self.fleet)
        self.housekeeper = Housekeeper(self.database, keep_days=KEEP_DAYS)
        self.is_up = True

    def kill(self) -> None:
        """Forget everything that is not on disk."""
        self.database.close()
        self.is_up = False

    def record(self, messages: list[Message]) -> None:
        """Store a batch, then answer."""
        arrivals = [Arrival(topic, payload) for topic, payload in messages]
        for letter in self.recorder.record(arrivals, now_s=self._events.now_s):
            self.postbox.send(letter)

    def _postbox(self, name: str) -> Postbox:
        return Postbox(self._downlink, tenant=self.fleet.tenant, incarnation=f"{name}-{self.runs}")
