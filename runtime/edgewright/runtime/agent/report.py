"""What the device says about itself: to the fleet in hello and heartbeat, to a person in `device status`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

from edgewright.targets.board import Board

from ..routes import parse_routes
from ..telemetry import wire
from ..telemetry.spool import Spool
from .admission import DeviceFacts
from .blame import Memory
from .breaker_memory import BreakerMemory
from .config import DeviceConfig
from .credentials import Credentials
from .listeners import HeldListener
from .model_state import ModelState
from .offering import Offering
from .places import Places
from .supervise import Supervisor
from .update import phase_of
from .updater import Updater

if TYPE_CHECKING:
    from .link import Link


class Reported(Protocol):
    """A running device, as far as it is reported on."""

    places: Places
    config: DeviceConfig
    supervisor: Supervisor
    updater: Updater
    spool: Spool
    board: Board
    boot: str
    address: str
    listeners: tuple[HeldListener, ...]
    breakers: BreakerMemory
    offering: Offering
    started_s: float
    ready: bool
    credentials: Credentials | None
    link: Link | None

    @property
    def problems(self) -> list[str]:
        """What was found damaged."""

    def facts(self) -> DeviceFacts:
        """What the device is."""


def model_states(states: Mapping[str, ModelState]) -> tuple[wire.ModelState, ...]:
    """Return the models that are served or updated, as the fleet wants them."""
    return tuple(
        wire.ModelState(
            model=state.model,
            version=active.version if active else "",
            bundle=active.bundle if active else "",
            phase=state.update.phase if state.update else "idle",
            rollback=back.bundle if back else None,
        )
        for state in states.values()
        for active, back in [(state.active_slot, state.rollback_slot)]
        if active is not None or state.update is not None
    )


def software() -> str:
    """Name and version of this software."""
    return f"edgewright {metadata.version('edgewright')}"


def hello(device: Reported, epoch: int) -> wire.Hello:
    """Return the first message after a connect."""
    return wire.Hello(
        software=software(),
        target=device.board.name,
        target_digest=device.board.digest(),
        emulated=device.config.emulate,
        isa=tuple(sorted(device.facts().isa)),
        boot=device.boot,
        spool=device.spool.identity,
        spool_next_seq=device.spool.next_seq,
        spool_first_seq=device.spool.next_seq - device.spool.backlog,
        desired_epoch=epoch,
        models=model_states(device.updater.states),
    )


def heartbeat(device: Reported) -> wire.Heartbeat:
    """Return the regular sign of life."""
    return wire.Heartbeat(
        uptime_s=time.monotonic() - device.started_s,
        spool_bytes=device.spool.size_bytes,
        spool_backlog=device.spool.backlog,
        server_running=device.supervisor.incarnation is not None,
        models=model_states(device.updater.states),
    )


def status(device: Reported) -> dict[str, Any]:
    """Return what `edgewright device status --json` prints."""
    credentials, link = device.credentials, device.link
    return {
        "software": software(),
        "ready": device.ready,
        "uptime_s": round(time.monotonic() - device.started_s, 1),
        "target": device.board.name,
        "target_digest": device.board.digest(),
        "emulated": device.config.emulate,
        "listen": device.address,
        "tls": device.config.tls is not None,
        "socket": str(device.places.server_socket),
        "listeners": [{"kind": each.kind, "address": _address(each)} for each in device.listeners],
        "grpc": device.supervisor.grpc_address or device.config.grpc,
        "routes": sorted(parse_routes(device.offering.text)),
        "server": {
            "running": device.supervisor.incarnation is not None,
            "pid": device.supervisor.pid,
            "incarnation": device.supervisor.incarnation,
            "crashes": device.supervisor.crashes.total,
        },
        "fleet": {
            "enrolled": credentials is not None,
            "device": credentials.device if credentials else None,
            "connected": link.connected if link else False,
            "problem": (link.last_problem or None) if link else None,
        },
        "spool": {
            "identity": device.spool.identity,
            "bytes": device.spool.size_bytes,
            "max_bytes": device.config.spool_max_bytes,
            "backlog": device.spool.backlog,
        },
        "models": [_model(state, device.breakers) for state in device.updater.states.values()],
        "problems": device.problems,
    }


def _address(listener: HeldListener) -> str:
    """`host:port`, or the path of a Unix socket."""
    name = listener.address
    return str(listener.path) if name == "unix" else name


def _breaker(memory: Memory | None) -> dict[str, Any] | None:
    if memory is None or memory.state == "closed":
        return None
    return {"state": memory.state, "crashes": memory.crashes, "until_s": memory.until_s, "reason": memory.reason}


def _model(state: ModelState, breakers: BreakerMemory) -> dict[str, Any]:
    active, back, running = state.active_slot, state.rollback_slot, state.update
    last = state.outcomes[-1] if state.outcomes else None
    return {
        "model": state.model,
        "version": active.version if active else None,
        "bundle": active.bundle if active else None,
        "slot": state.active,
        "phase": phase_of(state),
        "breaker": _breaker(breakers.get(state.model, active.bundle)) if active else None,
        "blamed": [
            {"version": memory.version, "crashes": memory.crashes, "reason": memory.reason}
            for memory in breakers
            if memory.model == state.model
        ],
        "updating_to": running.order.version if running else None,
        "rollback_version": back.version if back else None,
        "security_floor": state.security_floor,
        "last_outcome": {"phase": last.phase, "version": last.version, "reason": last.reason} if last else None,
    }
