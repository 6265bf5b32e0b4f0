"""Puts the agent together: `edgewright device run`.

The order matters. The server process takes longest to start, so it is started first, and what the agent needs besides
(the link, downloads, the spool) is imported while it starts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from edgewright.targets.faults import EnvironmentFault

from ..storage import LocalStorage
from .config import DeviceConfig
from .listeners import bind_all, check_exposure, grpc_settings
from .log import start_logging
from .loop import Loop
from .places import Places
from .server_process import ServerSettings, ServerSpawner, boot_id
from .state_lock import end_orphan_server, lock_state
from .supervise import Supervisor

if TYPE_CHECKING:
    from .device import Device

_log = logging.getLogger(__name__)

_ORPHAN_PATIENCE_S = 5.0
_BIND_PATIENCE_S = 2.0


class StateUnusable(EnvironmentFault):
    """The state directory cannot be read or written."""


def run_daemon(state: Path, config: DeviceConfig) -> signal.Signals:
    """Run until SIGTERM or SIGINT; returns which of them it was.

    Raises:
        Fault: the state directory is in use or unusable, an address is taken, or the target is unknown.
    """
    places = Places(state=state.absolute())
    os.umask(os.umask(0) | 0o022)  # whatever the caller has set: nobody else may write the state
    try:
        return _run_daemon(places, config)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StateUnusable(
            f"the state directory {places.state} cannot be used: {error.strerror or error}{where}. The daemon needs to "
            "write there: check the owner, the free space, and whether the disk is mounted read-only"
        ) from error


def _run_daemon(places: Places, config: DeviceConfig) -> signal.Signals:
    check_exposure(config)
    places.state.mkdir(parents=True, exist_ok=True)
    places.run.mkdir(parents=True, exist_ok=True)
    with lock_state(places.state), _lock_run(places):
        start_logging(places.state / "agent.log")
        if end_orphan_server(places.run, patience_s=_ORPHAN_PATIENCE_S):
            _log.warning("the last agent was killed; its server has ended")
        listeners = bind_all(config, places, patience_s=_BIND_PATIENCE_S)
        loop = Loop()
        settings = ServerSettings(
            listeners=listeners,
            run_directory=places.run,
            log_path=places.state / "server.log",
            boot=boot_id(),
            window_s=config.window_s,
            emulate=config.emulate,
            grpc=grpc_settings(config),
            power=config.power,
            access_log=config.server.access_log,
            log_format=config.server.log_format,
        )
        supervisor = Supervisor(loop, ServerSpawner(loop, settings))
        supervisor.start()
        with _server_ends_with_us(supervisor):
            # Start-up time: these imports run beside those of the server.
            from .device import Device

            device = Device(places, config, loop, supervisor, LocalStorage(), boot=settings.boot, listeners=listeners)
            return _run(loop, device)


def _lock_run(places: Places) -> contextlib.AbstractContextManager[object]:
    """Two state directories must not share a $RUNTIME_DIRECTORY: each would end the server of the other."""
    return contextlib.nullcontext() if places.run.parent == places.state else lock_state(places.run)


def _run(loop: Loop, device: Device) -> signal.Signals:
    ended_by = signal.SIGTERM

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal ended_by
        ended_by = signal.Signals(number)
        loop.post(lambda: device.stop(ended_by.name))

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        device.start()
        loop.run()
        device.close()
        return ended_by
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _server_ends_with_us(supervisor: Supervisor) -> Iterator[None]:
    """A fault while the agent starts must not leave a server behind."""
    try:
        yield
    except BaseException:
        supervisor.kill()
        raise
