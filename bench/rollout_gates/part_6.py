"""Must be true 6: a decision over 100,000 devices takes at most a second, and the cost of a device stays the same.

`tick`: the core alone, in the middle of a rollout (half of the fleet has its order, nine in ten of those are done),
with controls and all gates on. `order`: a tick that draws a wave of half of the fleet. `step`: the server's whole step
on SQLite, from the read to the commit, while each second a thousand devices are heard and a hundred report.
`first_step`: after a start in the middle of the rollout, when everything is read; it happens once, and `second_step`
decides. `step_that_orders`: those that give half of the fleet its orders at once, which a policy without
`maximumPerMinute` does: mostly writing; `orders`: all of them together. The medians of several repetitions, and
`slowest`.

Seconds are those of the processor: a machine that others use too shall not change what is found.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import track
from sqlalchemy import insert

from bench import record
from bench.rollout_gates.cost_plot import plot
from edgewright.fleet.artifacts import Artifacts
from edgewright.fleet.collecting import uncollected
from edgewright.fleet.core.gates.control import due_blocks
from edgewright.fleet.core.ledger import Ledger
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rollout import tick
from edgewright.fleet.core.rows import GATE_DESIGN, Device, ReleaseBundle, Rollout
from edgewright.fleet.core.situation import Situation
from edgewright.fleet.ingest.downlink import Postbox
from edgewright.fleet.reconciler import Reconciler
from edgewright.fleet.service import Fleet
from edgewright.fleet.sim.starting import BOARDS, MODEL, STARTED_S, bundle_of, upload
from edgewright.fleet.store import enrolment, telemetry
from edgewright.fleet.store.database import Database
from edgewright.fleet.store.schema import devices as device_table
from edgewright.runtime.telemetry.records import UpdateRecord
from edgewright.runtime.telemetry.wire import Heartbeat, ModelState

SIZES, QUICK_SIZES = (1000, 3000, 10_000, 30_000, 100_000), (1000, 10_000)
REPEATS = 9
HEARD, REPORTING = 1000, 100
"""Devices in each second, at most: of 100,000 that beat every 100 s."""
DONE = 0.9
SITES = 500
POLICY: dict[str, Any] = {"waves": ["50%", "rest"], "horizonSeconds": 3600, "offlineAfterSeconds": 36_000}
LIMITS = {
    "tick_100k_s": 1.0,
    "order_100k_s": 1.0,
    "step_100k_s": 1.0,
    "step_that_orders_100k_s": 1.0,
    "first_step_100k_s": 1.0,
    "growth": 2.0,
}
"""`growth`: the cost of a device at the largest size over that at a tenth of it, for the tick and for the step. Ten
would be quadratic; somewhat above 1 is what rows that no longer fit the processor's cache cost."""


def measure(quick: bool) -> dict[str, Any]:
    """Time every size; draws results/rollout_tick.svg when not quick."""
    sizes = QUICK_SIZES if quick else SIZES
    seconds = {size: _core(size) | _server(size) for size in track(sizes, description="ticks")}
    largest, tenth = seconds[sizes[-1]], seconds[sizes[-1] // 10]
    figures: dict[str, Any] = {
        "seconds": {str(size): each for size, each in seconds.items()},
        "us_per_device": {
            str(size): {name: round(1e6 * value / size, 3) for name, value in each.items()}
            for size, each in seconds.items()
        },
        "growth": round(max(largest[name] / tenth[name] / 10 for name in ("tick", "step")), 2),
    }
    if not quick:
        figures |= {
            f"{name}_100k_s": largest[name] for name in ("tick", "order", "step", "step_that_orders", "first_step")
        }
        shown = ("tick", "order", "step")
        record.RESULTS.joinpath("rollout_tick.svg").write_text(
            plot({name: {size: seconds[size][name] for size in sizes} for name in shown}), encoding="utf-8"
        )
    return figures


def broken(figures: dict[str, Any]) -> list[str]:
    """Return what the figures break; a quick run measures no 100,000 devices."""
    return [
        f"{name} is {figures[name]}, above {most:g}" for name, most in LIMITS.items() if figures.get(name, 0) > most
    ]


def rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures for people."""
    return [
        (f"6 {int(size):,} devices, {name}", "edgewright", f"{1000 * value:,.1f} ms")
        for size, each in figures["seconds"].items()
        for name, value in each.items()
    ]


def _core(size: int) -> dict[str, float]:
    digest_of = {board: bundle_of("2", board) for board in BOARDS}
    devices = [
        Device(
            id=f"device-{number:06d}",
            target=BOARDS[number % len(BOARDS)],
            last_seen_s=STARTED_S,
            version="1",
            bundle=bundle_of("1", BOARDS[number % len(BOARDS)]),
            idle=True,
            reported_s=STARTED_S,
            site=f"site-{number % SITES}",
        )
        for number in range(size)
    ]
    ledger = Ledger(
        rollout=Rollout(
            id="r",
            model=MODEL,
            version="2",
            bundles=tuple(ReleaseBundle(target=board, digest=digest) for board, digest in digest_of.items()),
            policy=policy_from(POLICY | {"driftGate": {"enabled": False}}, where="bench"),
            seed=1,
            created_s=STARTED_S,
            gate_design=GATE_DESIGN,
        )
    )
    now_s = STARTED_S + 1

    def situation() -> Situation:
        assert not due_blocks(ledger.rollout, ledger.assignments, ledger.memory, now_s)
        return Situation(rollout=ledger.rollout, now_s=now_s, devices=devices, assignments=ledger.assignments)

    order = [_timed(lambda: tick(situation())) for _ in range(3)]
    while commands := tick(situation()):
        ledger = ledger.apply(commands)
    rows_after = tuple(
        msgspec.structs.replace(one, phase="confirmed", started_s=now_s, ended_s=now_s)
        if one.arm != "control" and place < DONE * len(ledger.assignments)
        else one
        for place, one in enumerate(ledger.assignments)
    )
    ledger = msgspec.structs.replace(ledger, assignments=rows_after)
    now_s += 60
    watching = [_timed(lambda: tick(situation())) for _ in range(REPEATS)]
    return {
        "tick": statistics.median(watching),
        "tick_slowest": max(watching),
        "order": statistics.median(order),
    }


class _Quiet:
    """A downlink that nobody listens to."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Drop it."""


def _server(size: int) -> dict[str, float]:
    now_s = STARTED_S

    def step(reconciler: Reconciler) -> float:
        return _timed(lambda: reconciler.step(now_s))

    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder))
        fleet = Fleet(database, Artifacts(Path(folder) / "artifacts"), now=lambda: now_s)
        upload(fleet)
        names = _enrol(database, size)
        rollout = fleet.create_rollout(MODEL, "2", POLICY).id
        counter = [0]
        postbox = Postbox(_Quiet(), tenant=fleet.tenant, incarnation="bench")
        reconciler = Reconciler(database, postbox, telemetry_revision=lambda: counter[0])
        reconciler.step(now_s)
        ordering = [step(reconciler)]
        while sum(one.orders for one in fleet.rollout_page(rollout, limit=0).counts) < size // 2:
            ordering.append(step(reconciler))
        ordered = [one for one in fleet.rollout(rollout).assignments if one.arm != "control"]
        done = int(DONE * len(ordered))
        for start in range(0, done, 10_000):
            _report(database, ordered[start : min(start + 10_000, done)], now_s)
        restart = Reconciler(database, postbox, telemetry_revision=lambda: counter[0])
        now_s += 60
        with uncollected():  # as the server's loop does
            again = step(restart)
            decided = step(restart)
        for _ in range(size // 2000 + 2):  # it has letters to send, of which each step sends some
            restart.step(now_s)
        steps = []
        late = ordered[done:]
        for turn in range(REPEATS):
            now_s += 1
            heard = [names[(turn * HEARD + number) % size] for number in range(min(HEARD, size // 10))]
            _beat(database, heard, now_s)
            few = min(REPORTING, size // 100)
            _report(database, late[turn * few : (turn + 1) * few], now_s)
            counter[0] += len(heard)
            steps.append(step(restart))
        database.close()
    return {
        "step": statistics.median(steps),
        "step_slowest": max(steps),
        "step_that_orders": statistics.median(ordering),
        "step_that_orders_slowest": max(ordering),
        "orders": round(sum(ordering), 6),
        "first_step": again,
        "second_step": decided,
    }


def _enrol(database: Database, size: int) -> list[str]:
    names = [f"device-{number:06d}" for number in range(size)]
    encoder = msgspec.msgpack.Encoder()
    models = {
        board: encoder.encode(
            (ModelState(model=MODEL, version="1", bundle=bundle_of("1", board), phase="idle", rollback=None),)
        )
        for board in BOARDS
    }
    with database.write() as connection:
        connection.execute(
            insert(device_table),
            [
                {
                    "device": name,
                    "secret": bytes(32),
                    "target": BOARDS[number % len(BOARDS)],
                    "target_digest": "",
                    "emulated": True,
                    "software": "",
                    "isa": "[]",
                    "enrolled_s": STARTED_S,
                    "last_seen_s": STARTED_S,
                    "models": models[BOARDS[number % len(BOARDS)]],
                    "models_s": STARTED_S,
                    "desired_epoch": 0,
                    "epoch_seen": 0,
                    "site": f"site-{number % SITES}",
                }
                for number, name in enumerate(names)
            ],
        )
    return names


def _beat(database: Database, names: list[str], now_s: float) -> None:
    with database.write() as connection:
        enrolment.seen(connection, names, now_s=now_s)
        for name in names[:REPORTING]:
            board = BOARDS[int(name.removeprefix("device-")) % len(BOARDS)]
            state = ModelState(model=MODEL, version="2", bundle=bundle_of("2", board), phase="idle", rollback=None)
            beat = Heartbeat(uptime_s=1, spool_bytes=0, spool_backlog=0, server_running=True, models=(state,))
            enrolment.beat(connection, name, beat, now_s=now_s)


def _report(database: Database, orders: Any, now_s: float) -> None:
    with database.write() as connection:
        telemetry.put_updates(
            connection,
            [
                telemetry.StoredUpdate(
                    device=one.device,
                    spool="s",
                    seq=1,
                    received_s=now_s,
                    record=UpdateRecord(
                        command=one.command,
                        model=MODEL,
                        version="2",
                        bundle=one.bundle,
                        phase="confirmed",
                        reason="",
                        at_s=now_s,
                        boot="b",
                    ),
                )
                for one in orders
            ],
        )


def _timed(work: Callable[[], object]) -> float:
    started_s = time.process_time()
    work()
    return round(time.process_time() - started_s, 6)
