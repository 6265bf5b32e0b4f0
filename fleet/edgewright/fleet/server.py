"""The fleet server: one process, one data directory. Puts the parts together, starts and stops them in the right order.

Stopping (SIGTERM, Ctrl-C): first no new requests, then no new messages, then what is queued is stored. Killing it is
safe as well: everything that was answered or acknowledged is in the database.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn

from .address import Address
from .api.app import Surroundings, build_app
from .api.impatience import ImpatientProtocol
from .api.origins import Origins
from .artifacts import Artifacts
from .console.routes import build_router
from .experimenting import Experimenting
from .faults import FleetUnavailable
from .hooks.worker import HookWorker
from .housekeeping import Housekeeper
from .ingest.downlink import Postbox
from .ingest.mqtt import MqttLink
from .ingest.recorder import Recorder
from .ingest.worker import IngestWorker
from .monitoring import Monitor
from .periodic import Periodic
from .reconciler import Reconciler
from .service import Fleet
from .store.database import Database
from .trust import credentials

log = logging.getLogger(__name__)

ADDRESS_FILE = "server.json"
"""In the data directory, while a server runs: where it listens, for the other commands."""
BACKLOG = 512
GRACE_S = 3
EXPERIMENTS_S = 30.0
"""Experiments learn, and end where a guardrail says so, so often."""
MOST_CONNECTIONS = 800
"""Past this, requests are answered with 503: a process may usually have 1,024 files open."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve."""

    data: Path
    listen: Address
    mqtt: Address
    device_mqtt: Address
    """What devices are told; differs from `mqtt` where they reach the broker by another name."""
    keep_days: float
    """How long the windows of single devices are kept."""
    names: tuple[str, ...] = ()
    """Names by which browsers reach the server through a proxy."""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What to tell the person who started it."""

    url: str
    login_link: str


def serve(options: Options, *, on_started: Callable[[Started], None]) -> int:
    """Serve until a signal comes, and return that signal.

    Raises:
        FleetUnavailable: the data directory or the port cannot be had.
        FleetError: the data directory holds something else.
    """
    with _signals() as received, contextlib.closing(_bind(options.listen)) as listener:
        database = Database(options.data)
        try:
            _serve(options, database, listener, on_started)
        finally:
            database.close()
    return received[0] if received else signal.SIGTERM


def _serve(
    options: Options, database: Database, listener: socket.socket, on_started: Callable[[Started], None]
) -> None:
    fleet = Fleet(database, Artifacts(options.data / "artifacts"), now=time.time)
    admin_token = credentials.admin_token(options.data)
    recorder = Recorder(database, tenant=fleet.tenant)
    link = MqttLink(host=options.mqtt.host, port=options.mqtt.port, tenant=fleet.tenant)
    postbox = Postbox(link, tenant=fleet.tenant, incarnation=secrets.token_hex(8))
    worker = IngestWorker(recorder, postbox)
    housekeeper = Housekeeper(database, keep_days=options.keep_days)
    monitor = Monitor(database)
    hooks = HookWorker(fleet)
    experiments = Periodic("experiments", Experimenting(fleet).step, period_s=EXPERIMENTS_S)
    reconciler = Reconciler(database, postbox, telemetry_revision=lambda: recorder.counts["records"])
    app = build_app(
        fleet,
        admin_token=admin_token,
        surroundings=Surroundings(
            mqtt_host=options.device_mqtt.host,
            mqtt_port=options.device_mqtt.port,
            broker_connected=lambda: link.connected,
            counts=lambda: dict(recorder.counts),
            origins=Origins(names=options.names, loopback=options.listen.loopback),
        ),
        extra_routers=[build_router(fleet, broker_connected=lambda: link.connected)],
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            http=ImpatientProtocol,
            limit_concurrency=MOST_CONNECTIONS,
            ws="none",
        )
    )
    worker.start()
    link.start(worker.offer)
    reconciler.start()
    housekeeper.start()
    monitor.start()
    hooks.start()
    experiments.start()
    url = f"http://{Address(options.listen.host, listener.getsockname()[1])}"
    with _announced(options.data, url):
        try:
            on_started(Started(url=url, login_link=f"{url}/?token={admin_token}"))
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listener])
        finally:
            experiments.stop()
            hooks.stop()
            monitor.stop()
            housekeeper.stop()
            reconciler.stop()
            link.stop()
            worker.stop()


def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise FleetUnavailable(
            f"cannot listen on {address}: {error.strerror or error}; give another address with --listen"
        ) from error
    return listener


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Turn SIGTERM into the same clean end as Ctrl-C; uvicorn raises the signal anew when it has shut down."""
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    except KeyboardInterrupt:
        log.info("stopped before it was up")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _announced(data: Path, url: str) -> Iterator[None]:
    """Leave the address in the data directory while the server runs."""
    path = data / ADDRESS_FILE
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    temporary.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
