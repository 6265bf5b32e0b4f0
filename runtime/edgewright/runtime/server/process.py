"""The server process: listeners, control channel, clock and end.

The agent starts it with the listening sockets and one end of a socket pair. Each line on the control channel is one
request (see `runtime.control`). The end of that channel means that the agent is dead: this process then answers what it
has accepted and ends, so that the next agent finds nothing in its way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgewright.targets.faults import Fault

from ..black_box import BlackBox
from ..control import (
    MAX_LINE_BYTES,
    Accept,
    Done,
    Drain,
    Failed,
    Installed,
    Ping,
    Ready,
    Reply,
    Request,
    SetRoutes,
    decode_request,
    encode,
)
from ..engines.protocol import LoadOptions
from ..power.board import Board
from ..power.cpus import CpuCap
from ..routes import RoutesError
from ..serving import ServerSettings
from .changes import Changes
from .grpc_port import grpc_server
from .http.opening import open_listener
from .installed import InstalledModels
from .limits import DEFAULT_LIMITS, Limits
from .log_settings import LogSettings
from .metrics.exposition import Family
from .metrics.routes import route_families
from .model_table import ModelTable
from .names import Names
from .recorder import CounterStore
from .routes.table import RouteTable
from .saving import Saving
from .state import ServerState
from .trace_settings import TraceSettings
from .v2.application import Application
from .v2.repository import Repository
from .v2.shared import Shared

if TYPE_CHECKING:
    from .v2.grpc.server import GrpcServer

_log = logging.getLogger(__name__)

_SWEEP_S = 1.0
_DRAIN_SWEEP_S = 0.05
_DRAIN_LIMIT_S = 30.0


class ServerProcess:
    """One run of the server. `run` returns when it has drained."""

    def __init__(self, settings: ServerSettings, control: socket.socket, limits: Limits = DEFAULT_LIMITS) -> None:
        self._control = control
        self._state = ServerState(incarnation=os.urandom(8).hex())
        store = CounterStore(Path(settings.counters_dir), settings.boot, self._state.incarnation, settings.window_s)
        box = _black_box(settings.black_box)
        self._table = ModelTable(store, limits, LoadOptions(emulated=settings.emulated), box, tell=self._send)
        self._routes = RouteTable(self._table.endpoint, count_shadow=self._table.count_shadow)
        self._installed = InstalledModels()
        self._changes = Changes(self._table, self._installed)
        self._repository = Repository(self._table, self._changes, self._installed, self._routes.has)
        self._names = Names(self._table, self._routes)
        self._log = LogSettings(access_log=settings.access_log, log_format=settings.log_format)
        self._trace = TraceSettings()
        board = Board(Path(settings.sysfs))
        self._saving = Saving(settings.power, board, self._routes, CpuCap(), time.monotonic())
        self._application = Application(
            names=self._names,
            table=self._table,
            state=self._state,
            repository=self._repository,
            limits=limits,
            log=self._log,
            trace=self._trace,
            more_metrics=self._more_metrics,
        )
        self._listeners = [open_listener(each, self._application.handler, limits) for each in settings.listeners]
        self._state.listeners = [listener.connections for listener in self._listeners]
        self._paused = settings.paused
        self._limits = limits
        self._grpc_settings = settings.grpc
        self._grpc: GrpcServer | None = None
        self._drain_wanted = asyncio.Event()
        self._drain_ids: list[int] = []
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Serve until the agent, a signal or the end of the control channel says to drain."""
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self._drain_wanted.set)
        reader, self._writer = await asyncio.open_connection(sock=self._control, limit=MAX_LINE_BYTES)
        grpc_address = None if self._paused else self._accept()
        self._send(Ready(incarnation=self._state.incarnation, grpc_address=grpc_address))
        tasks = [
            loop.create_task(_told_of_its_end(work))
            for work in (
                self._read_control(reader),
                self._changes.run(),
                self._keep_time(),
                self._saving.run(self._table),
            )
        ]
        try:
            await self._drain_wanted.wait()
            await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            self._table.close()
        for request_id in self._drain_ids:
            self._send(Done(id=request_id))
        self._writer.close()

    async def _read_control(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(decode_request(line))
        except (msgspec.DecodeError, ValueError, OSError) as error:
            _log.error("the control channel is unusable: %s", error)
        self._drain_wanted.set()

    def _take(self, request: Request) -> None:
        if isinstance(request, Ping):
            self._send(Done(id=request.id))
        elif isinstance(request, Drain):
            self._drain_ids.append(request.id)
            self._drain_wanted.set()
        elif isinstance(request, Installed):
            self._installed.replace(request.models)
            self._table.held = frozenset(request.held)
            self._send(Done(id=request.id))
        elif isinstance(request, SetRoutes):
            self._send(self._set_routes(request))
        elif isinstance(request, Accept):
            self._accept_late(request)
        else:
            self._changes.ask(request, self._send)

    def _accept(self) -> str | None:
        """Accept connections; returns where gRPC is served."""
        for listener in self._listeners:
            listener.resume()
        if self._grpc_settings is None or self._grpc is not None:
            return None
        self._grpc = grpc_server(
            self._grpc_settings,
            Shared(
                names=self._names,
                table=self._table,
                state=self._state,
                repository=self._repository,
                limits=self._limits,
                log=self._log,
                trace=self._trace,
            ),
        )
        return self._grpc.start()

    def _accept_late(self, request: Accept) -> None:
        try:
            address = self._accept()
        except Fault as fault:
            _log.error("%s", fault)
            self._send(Failed(id=request.id, reason=str(fault)))
        else:
            self._send(Done(id=request.id, detail={} if address is None else {"grpc_address": address}))

    def _set_routes(self, request: SetRoutes) -> Done | Failed:
        try:
            missing = self._routes.apply(request.toml)
        except RoutesError as error:
            _log.error("%s", error)
            return Failed(id=request.id, reason=str(error))
        return Done(id=request.id, detail={"routes": len(self._routes), "not_loaded": ", ".join(missing)})

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(_DRAIN_SWEEP_S if self._state.draining else _SWEEP_S)
            self._table.tick(time.time())
            for listener in self._listeners:
                listener.sweep(time.monotonic())
            if self._grpc is not None:
                self._grpc.sweep(time.monotonic())

    def _more_metrics(self) -> list[Family]:
        return [*route_families(self._routes.statistics()), *self._saving.families()]

    async def _drain(self) -> None:
        self._state.draining = True
        stopping = None if self._grpc is None else asyncio.create_task(self._grpc.stop(_DRAIN_LIMIT_S))
        for listener in self._listeners:
            await listener.stop()
        end_s = time.monotonic() + _DRAIN_LIMIT_S
        for listener in self._listeners:
            listener.connections.drain()
        while self._state.open_connections and time.monotonic() < end_s:
            for listener in self._listeners:
                listener.connections.sweep(time.monotonic())
            await asyncio.sleep(_DRAIN_SWEEP_S)
        if stopping is not None:
            await stopping

    def _send(self, reply: Reply) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(reply))


async def _told_of_its_end(work: Coroutine[Any, Any, None]) -> None:
    """A task that fails says so at once: the server goes on without it, and nobody else would."""
    try:
        await work
    except Exception:  # noqa: BLE001 - see above
        _log.exception("a background task has ended; requests are served on")


def _black_box(path: str | None) -> BlackBox | None:
    """A device whose disk is full serves on; only nobody can be blamed then."""
    if path is None:
        return None
    try:
        return BlackBox.create(Path(path))
    except OSError as error:
        _log.warning("no black box %s: %s", path, error)
        return None
