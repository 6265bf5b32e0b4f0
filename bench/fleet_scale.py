"""What does one fleet server cost at a thousand devices, with a day of telemetry behind it?

    python -m bench.fleet_scale            1,000 devices, 24 h of 60 s windows (1.44 million records)
    python -m bench.fleet_scale --quick    a tenth: 144 minutes
    python -m bench.fleet_scale --check    also exit 1 above the LIMITS

Three targets, two releases; the second is being rolled out (1, 10 %, rest) and half of the fleet has it. The records
are stored by the functions that the ingest uses, in batches of 500, each committed with an fsync; the bytes on the wire
are the business of bench.ingest. Then telemetry goes on at the pace of such a fleet, and each part that runs once a
second, or when a person looks, is timed on the full database.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import record
from edgewright.bundle.reference import Histogram, Reference, Source, write_reference
from edgewright.fleet.artifacts import Artifacts
from edgewright.fleet.console.feed import Feed
from edgewright.fleet.housekeeping import FOLDED_AT_ONCE, Housekeeper
from edgewright.fleet.ingest.downlink import Postbox
from edgewright.fleet.reconciler import Reconciler
from edgewright.fleet.service import Fleet
from edgewright.fleet.sim.network import MemoryNetwork
from edgewright.fleet.store import enrolment, releases, telemetry, windows
from edgewright.fleet.store.database import Database
from edgewright.fleet.store.enrolment import Enrolling
from edgewright.runtime.telemetry.records import LATENCY_EDGES_US, UpdatePhase, UpdateRecord, WindowRecord
from edgewright.runtime.telemetry.wire import Heartbeat, ModelState

DEVICES = 1000
TARGETS = ("jetson-orin-nano", "raspberry-pi-4", "raspberry-pi-5")
WINDOW_S = 60
MINUTES = 1440
FEATURES, BINS = 16, 32
BATCH = 500
TIDY_EVERY = 10
"""Minutes; the server tidies up every minute."""
ROLLOUT_AT = 0.5
"""Share of the time after which the second release starts to be rolled out."""
PHASES: tuple[UpdatePhase, ...] = ("fetching", "installing", "trial", "probation", "confirmed")
START_S = 1_700_000_040
REPEATS = 7
LIMITS = {"tick_ms": 500.0, "drift_24h_ms": 500.0, "console_page_ms": 500.0}
"""A tick comes every second, and a console that is open is rendered every second, on a machine with two cores."""


class World:
    """A clock, a fleet, and records that differ without costing much to make."""

    def __init__(self, directory: Path) -> None:
        self.now_s = float(START_S)
        self.database = Database(directory)
        self.fleet = Fleet(self.database, Artifacts(directory / "artifacts"), now=lambda: self.now_s)
        self.postbox = Postbox(MemoryNetwork(), tenant=self.fleet.tenant, incarnation="bench")
        self.names = [f"device-{number:04d}" for number in range(DEVICES)]
        self.target_of = {name: TARGETS[number % len(TARGETS)] for number, name in enumerate(self.names)}
        self.runs = dict.fromkeys(self.names, "1")
        self.stored = 0
        self.housekeeper = Housekeeper(self.database)
        self.reconciler = Reconciler(self.database, self.postbox, telemetry_revision=lambda: self.stored)
        chosen = random.Random(1)  # noqa: S311  (the same load each time)
        self._drawn = [
            tuple(tuple(chosen.randrange(60) for _ in range(BINS)) for _ in range(FEATURES)) for _ in range(64)
        ]
        self._latency = tuple(chosen.randrange(20) for _ in range(len(LATENCY_EDGES_US) + 1))

    def enrol(self) -> None:
        for name in self.names:
            token = self.fleet.add_token(label="", lifetime_s=3600)
            target = self.target_of[name]
            self.fleet.enrol(token, Enrolling(name=name, target=target, target_digest=digest("target", target)))

    def release(self, version: str) -> None:
        """Put a release into the store; the archives are not what is measured."""
        histograms = tuple(
            Histogram(
                name=f"x{number}",
                role="input",
                kind="numeric",
                edges=tuple(float(edge) for edge in range(BINS - 1)),
                counts=(1000,) * BINS,
                source=Source(tensor="x", statistic="column", index=number),
            )
            for number in range(FEATURES)
        )
        path = self.database.directory / "reference.cbor"
        write_reference(path, Reference(version=1, histograms=histograms, confidence_table=None))
        with self.database.write() as connection:
            for target in TARGETS:
                releases.put_bundle(
                    connection,
                    releases.StoredBundle(
                        digest=digest(version, target),
                        model="digits",
                        version=version,
                        target=target,
                        target_digest=digest("target", target),
                        security_epoch=1,
                        size_bytes=1,
                        manifest=b"{}",
                        reference_digest=digest("reference", version),
                        reference=path.read_bytes(),
                        uploaded_s=self.now_s,
                    ),
                )
        self.fleet.add_release("digits", version, [digest(version, target) for target in TARGETS])

    def records(self, minute: int) -> Iterator[tuple[str, WindowRecord]]:
        """Each device's record of one window."""
        for place, name in enumerate(self.names):
            version = self.runs[name]
            yield (
                name,
                WindowRecord(
                    model="digits",
                    version=version,
                    bundle=digest(version, self.target_of[name]),
                    reference=digest("reference", version),
                    window_start_s=START_S + WINDOW_S * minute,
                    window_s=WINDOW_S,
                    boot="0" * 36,
                    incarnation=f"{place:032d}",
                    seq=600,
                    closed=True,
                    requests=600,
                    failures=0,
                    rows=600,
                    latency_us_sum=300_000,
                    latency=self._latency,
                    histograms=self._drawn[(place + minute) % len(self._drawn)],
                ),
            )

    def minute(self, minute: int) -> float:
        """Store one window of every device and return how long that took."""
        found = list(self.records(minute))
        started_s = time.perf_counter()
        for first in range(0, len(found), BATCH):
            with self.database.write() as connection:
                windows.put_windows(connection, found[first : first + BATCH], now_s=self.now_s)
            self.stored += len(found[first : first + BATCH])
        return time.perf_counter() - started_s

    def beat(self) -> None:
        with self.database.write() as connection:
            for name in self.names:
                version = self.runs[name]
                state = ModelState(
                    model="digits",
                    version=version,
                    bundle=digest(version, self.target_of[name]),
                    phase="idle",
                    rollback=None,
                )
                heartbeat = Heartbeat(uptime_s=1, spool_bytes=0, spool_backlog=0, server_running=True, models=(state,))
                enrolment.beat(connection, name, heartbeat, now_s=self.now_s)

    def obey(self, rollout: str, most: int) -> None:
        """Have devices carry out their orders, as long as fewer than `most` have the new release."""
        with self.database.write() as connection:
            for order in self.fleet.rollout(rollout).assignments:
                if self.runs[order.device] == "2" or list(self.runs.values()).count("2") >= most:
                    continue
                self.runs[order.device] = "2"
                for place, phase in enumerate(PHASES):
                    update = UpdateRecord(
                        command=order.command,
                        model="digits",
                        version="2",
                        bundle=order.bundle,
                        phase=phase,
                        reason="",
                        at_s=self.now_s,
                        boot="0" * 36,
                    )
                    stored = telemetry.StoredUpdate(
                        device=order.device, spool="s", seq=place + 1, received_s=self.now_s, record=update
                    )
                    telemetry.put_updates(connection, [stored])


def digest(*of: str) -> str:
    """Return something that looks like a digest."""
    return "sha256:" + "".join(of).encode().hex().ljust(64, "0")[:64]


def timed(repeats: int, work: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Return the median time in milliseconds."""
    taken = []
    for _ in range(repeats):
        before()
        started_s = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started_s))
    return statistics.median(taken)


def fill(world: World, minutes: int) -> dict[str, float]:
    """Let the fleet run, roll the second release out, and stop in the middle of its last wave."""
    world.enrol()
    world.release("1")
    world.release("2")
    rollout = ""
    spent_s = slowest_s = 0.0
    for minute in track(range(minutes), description="filling", transient=True):
        world.now_s = START_S + WINDOW_S * (minute + 1)
        taken_s = world.minute(minute)
        if minute % TIDY_EVERY == 0:
            world.housekeeper.step(world.now_s)
        spent_s, slowest_s = spent_s + taken_s, max(slowest_s, taken_s)
        if minute >= int(ROLLOUT_AT * minutes) and minute % max(1, minutes // 48) == 0:
            world.beat()
            if not rollout:
                policy: dict[str, Any] = {
                    "horizonSeconds": minutes * WINDOW_S,
                    "offlineAfterSeconds": minutes * WINDOW_S,
                    "driftGate": {"action": "PAUSE", "enabled": True, "onInconclusive": "CONTINUE", "maxPsi": 5},
                }
                rollout = world.fleet.create_rollout("digits", "2", policy).id
            for _ in range(3):
                world.reconciler.step(world.now_s)
            world.obey(rollout, DEVICES // 2)
    world.beat()
    return {
        "ingest_records_per_s": world.stored / spent_s,
        "ingest_slowest_minute_ms": 1000 * slowest_s,
        "records": world.stored,
    }


def measure(world: World, minutes: int) -> dict[str, float]:
    """Time what runs all the time, on a full database."""
    fresh = iter(range(minutes, minutes + 1000))
    feed = Feed(world.fleet, broker_connected=lambda: True, monotonic=lambda: float("inf"))

    def more() -> None:
        world.now_s += WINDOW_S
        world.minute(next(fresh))
        feed._rendered_s = float("-inf")  # noqa: SLF001  (a viewer of the next second)

    found = {"quiet_tick_ms": timed(REPEATS, lambda: world.reconciler.step(world.now_s))}
    found["tick_ms"] = timed(REPEATS, lambda: world.reconciler.step(world.now_s), more)
    found["first_tick_after_start_ms"] = timed(
        1,
        lambda: Reconciler(world.database, world.postbox, telemetry_revision=lambda: 0).step(world.now_s),
    )
    found["drift_24h_ms"] = timed(REPEATS, lambda: msgspec.json.encode(world.fleet.drift(span_s=86400)))
    found["console_page_ms"] = timed(REPEATS, feed.page, more)
    found["fold_2000_windows_ms"] = timed(3, lambda: fold_some(world))
    path = world.database.directory / "fleet.sqlite"
    found["database_bytes"] = path.stat().st_size
    found["database_bytes_per_record"] = path.stat().st_size / world.stored
    found["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


def fold_some(world: World) -> None:
    """Fold as many windows as the housekeeper does in one transaction."""
    with world.database.write() as connection:
        windows.fold(connection, before_s=world.now_s, most=FOLDED_AT_ONCE)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the records")
    parser.add_argument("--check", action="store_true", help="exit 1 above the limits")
    options = parser.parse_args()
    minutes = MINUTES // 10 if options.quick else MINUTES
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        figures = fill(world, minutes)
        figures |= measure(world, minutes)
        world.database.close()
    table = Table("figure", "value", title=f"{DEVICES} devices, {minutes} windows of {WINDOW_S} s")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.1f}")
    Console().print(table)
    record.write("fleet_scale", {"devices": DEVICES, "minutes": minutes, **figures}, packages=("sqlalchemy",))
    if options.check and any(figures[name] > limit for name, limit in LIMITS.items()):
        sys.exit(1)


if __name__ == "__main__":
    main()
