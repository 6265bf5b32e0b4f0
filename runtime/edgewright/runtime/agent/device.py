"""One running device: the updater, the spool, the collector, the link and the control socket around one loop."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.targets.board import Board
from edgewright.targets.catalog import load_board
from edgewright.targets.faults import EnvironmentFault
from edgewright.targets.host import detect_host

from ..black_box import read_black_box
from ..storage import Storage
from ..telemetry.records import UpdateRecord
from ..telemetry.spool import Spool, SpoolFault, SpoolLimits
from . import systemd
from .admission import DeviceFacts
from .breaker_memory import BreakerMemory
from .collect import Collector
from .config import DeviceConfig
from .control_socket import ControlSocket
from .credentials import Credentials, CredentialsError, read_credentials
from .fetch import Downloads, FetchLimits
from .guard import Guard
from .http_source import ByteSource, HttpSource
from .jobs import ThreadJobs
from .listeners import HeldListener
from .log import bound_log
from .loop import Loop
from .offering import Offering
from .operations import Operations
from .places import Places
from .report import heartbeat, hello, model_states, status
from .slots import SlotStore
from .sockets import listen_unix
from .supervise import Supervisor
from .surroundings import Surroundings
from .updater import Updater
from .vital_signs import read_signs
from .watch import Crash, Watch
from .workshop import DeviceWorkshop, Tools, device_facts

if TYPE_CHECKING:
    from .link import Link

_log = logging.getLogger(__name__)

_JOBS_PATIENCE_S = 2.0


class Device:
    """Lives on the agent's loop; made once in a process."""

    def __init__(
        self,
        places: Places,
        config: DeviceConfig,
        loop: Loop,
        supervisor: Supervisor,
        storage: Storage,
        *,
        boot: str,
        listeners: tuple[HeldListener, ...],
    ) -> None:
        self.places = places
        self.config = config
        self.loop = loop
        self.supervisor = supervisor
        self.boot = boot
        self.listeners = listeners
        self.address = listeners[0].address
        self.started_s = time.monotonic()
        self.ready = False
        self._stopping = False
        self._credentials_problem = ""
        self.credentials: Credentials | None = None
        self.link: Link | None = None
        self.host: Board = detect_host()
        self.board: Board = self.host if config.target == "host" else load_board(config.target)
        self.spool = Spool.open(
            storage,
            places.state / "spool",
            limits=SpoolLimits(max_bytes=config.spool_max_bytes),
            new_identity=os.urandom(8).hex(),
            now_s=time.time(),
        )
        self._storage = storage
        self._incarnation = os.urandom(8).hex()
        self._collector = Collector(self.spool, places.run, time.time)
        self._jobs = ThreadJobs()
        self._store = SlotStore(storage, places.state / "models")
        self.breakers = BreakerMemory(storage, places.state / "breakers.json")
        self._guard = Guard(loop, supervisor.orders, self.breakers, config.settings_of, time.time)
        self.updater = self._make_updater()
        self.offering = Offering(
            storage,
            places.routes,
            self._store,
            supervisor.orders,
            self._guard,
            lambda: self.updater.states,
            config.settings_of,
        )
        self._control = self._make_control()

    def start(self) -> None:
        """Take up the work; the loop is not running yet."""
        self.supervisor.watch(
            Watch(
                ping_interval_s=self.config.ping_interval_s,
                ping_deadline_s=self.config.ping_deadline_s,
                clock=time.monotonic,
                look=read_signs,
                overdue=self._overdue,
                on_ready=self._server_ready,
                on_serving=self._serving,
                on_alive=lambda: systemd.notify("WATCHDOG=1"),
                on_breaker=self._guard.breaker_moved,
                on_crash=self._server_crashed,
                on_crash_loop=self.updater.crash_looped,
                on_left=self._collect,
            )
        )
        self.updater.start(self._in_spool)
        self.updater.listeners.append(self._update_moved)
        self._control.start()
        self.loop.call_later(self.config.report_interval_s, self._collect_and_repeat)
        self.connect()

    def stop(self, reason: str) -> None:
        """End everything in order; the loop ends with the server. A second signal changes nothing."""
        if self._stopping:
            return
        self._stopping = True
        _log.info("stopping: %s", reason)
        systemd.notify("STOPPING=1")
        self.ready = False
        self.updater.stop()
        if self.link is not None:
            self.link.stop()
        for listener in self.listeners:
            listener.socket.close()  # the server has it too: when that closes it, clients are refused, not forgotten
        self.listeners = ()
        self.supervisor.stop(self._server_stopped)

    def close(self) -> None:
        """Leave nothing behind."""
        self._control.close()
        self._jobs.join(_JOBS_PATIENCE_S)
        places = self.places
        for path in (places.agent_socket, places.server_socket, places.admin_socket, places.tensors_socket):
            path.unlink(missing_ok=True)

    def connect(self) -> None:
        """Connect to the fleet as the credentials say now; without any, serve without one."""
        try:
            credentials = read_credentials(self.places.state)
        except CredentialsError as error:
            _log.error("serving without the fleet: %s", error)
            self._credentials_problem = str(error)
            return
        self._credentials_problem = ""
        if credentials is None or credentials == self.credentials:
            return
        # Start-up time and memory: a device without a fleet never imports MQTT.
        from .device_link import make_link

        if self.link is not None:
            self.link.stop()
        self.credentials = credentials
        self.link = make_link(
            self._storage,
            credentials,
            memory_path=self.places.state / "link.json",
            loop=self.loop,
            spool=self.spool,
            incarnation=self._incarnation,
            heartbeat_s=self.config.heartbeat_s,
            hello=lambda epoch: hello(self, epoch),
            heartbeat=lambda: heartbeat(self),
            order=self.updater.order,
        )
        self.link.start()

    @property
    def problems(self) -> list[str]:
        """What was found damaged, for a person to look at."""
        return [*self._store.damaged, *filter(None, [self._credentials_problem, self.offering.problem])]

    def facts(self) -> DeviceFacts:
        """What this device is, with the memory that is free now."""
        return device_facts(self.board, self.host, emulate=self.config.emulate)

    def _make_updater(self) -> Updater:
        state = self.places.state
        limits = FetchLimits(max_bytes=self.config.download_max_bytes, deadline_s=self.config.fetch_deadline_s)
        tools = Tools(
            storage=self._storage,
            store=self._store,
            downloads=Downloads(self._storage, state / "downloads", limits),
            source=self._source,
            facts=self.facts,
            trial_timeout_s=self.config.trial_timeout_s,
            log_path=state / "trial.log",
        )
        return Updater(
            Surroundings(
                loop=self.loop,
                store=self._store,
                workshop=DeviceWorkshop(tools),
                serving=self._guard,
                jobs=self._jobs,
                report=self._report,
                wall_clock=time.time,
                boot=self.boot,
            )
        )

    def _make_control(self) -> ControlSocket:
        operations = Operations(
            self.loop.post,
            self.updater,
            probation_s=self.config.probation_s,
            status=lambda: status(self),
            reload_credentials=self.connect,
            forgive=self._guard.forgive,
            offering=self.offering,
            replace_server=self.supervisor.replace,
        )
        return ControlSocket(listen_unix(self.places.agent_socket), operations.table())

    def _source(self) -> ByteSource:
        if self.credentials is None or not self.credentials.fleet_url:
            raise EnvironmentFault("this device is not enrolled, it has nowhere to download from")
        return HttpSource(self.credentials)

    def _serving(self) -> None:
        if not self.ready:
            self.ready = True
            _log.info("ready: %s, %d models", self.address, len(model_states(self.updater.states)))
            systemd.notify("READY=1")

    def _server_ready(self) -> None:
        self.offering.server_ready()
        workers = (name for name, settings in self.config.models.items() if settings.isolation == "worker")
        self.updater.server_ready(frozenset(workers))

    def _update_moved(self, record: UpdateRecord) -> None:
        del record
        # After this turn: the record comes before what it announces is done.
        self.loop.post(self.offering.changed)

    def _overdue(self, black_box: Path | None) -> str | None:
        executing = read_black_box(black_box) if black_box else []
        return self._guard.overdue(executing, time.monotonic_ns()) if executing else None

    def _server_crashed(self, crash: Crash) -> bool:
        self._collect()
        executing = read_black_box(crash.black_box) if crash.black_box else []
        blamed = self._guard.crashed(
            executing, crash.loading, reason=crash.reason, verdict=crash.verdict, now_ns=time.monotonic_ns()
        )
        self.updater.server_crashed(f"the server process ended: {crash.reason}", blamed)
        return bool(blamed)

    def _server_stopped(self) -> None:
        self._collect()
        try:
            self.spool.commit()
            self.spool.save_cursor()
        except (SpoolFault, OSError) as error:
            _log.error("the spool cannot be closed: %s", error)
        self.loop.stop()

    def _collect_and_repeat(self) -> None:
        self.loop.call_later(self.config.report_interval_s, self._collect_and_repeat)
        self.updater.flush_reports()
        self._collect()
        bound_log(self.places.state / "server.log")

    def _collect(self) -> None:
        self._collector.collect(self.supervisor.alive)
        if self.link is not None:
            self.link.send_records()

    def _report(self, records: tuple[UpdateRecord, ...]) -> bool:
        try:
            for record in records:
                self.spool.append(record, time.time())
            self.spool.commit()
        except SpoolFault as fault:
            _log.error("%s; the report is tried again later", fault)
            return False
        if self.link is not None:
            self.link.send_records()
        return True

    def _in_spool(self, record: UpdateRecord) -> bool:
        start = self.spool.acked_seq + 1
        while batch := self.spool.read(start, max_bytes=256 * 1024):
            if any(kept == record for _, kept in batch):
                return True
            start = batch[-1][0] + 1
        return False
