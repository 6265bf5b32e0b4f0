"""The gRPC port of a server process: bound, secured, bounded, and drained."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from ....serving import GrpcSettings
from ...http.connections import Connections
from ...http.listener import Listener
from ...http2.limits import Http2Limits
from ..shared import Shared
from .address import Bound, bind, check_address
from .admission import everybody, with_tokens
from .connection import Connection
from .health import Health
from .infer import Inferences
from .methods import Methods
from .open_calls import OpenCalls
from .opening import Opening
from .service import service_of
from .stream import InferenceStreams

if TYPE_CHECKING:  # OpenSSL stays outside where no listener speaks TLS
    import ssl

_log = logging.getLogger(__name__)

_SWEEP_S = 0.05
"""While it drains."""


class GrpcServer:
    """Serves the V2 protocol on the running event loop."""

    def __init__(self, settings: GrpcSettings, shared: Shared) -> None:
        """Check where it would listen, and read the tokens; listens to nothing before `start`.

        Raises:
            UserFault: strangers could reach the address, it is no address, or the tokens cannot be read.
        """
        check_address(settings)
        self._settings = settings
        self._limits = shared.limits
        # What is beyond our own limits, but not beyond these, is told so in the terms of gRPC.
        self._http2_limits = Http2Limits(head_bytes=2 * shared.limits.head_bytes, headers=2 * shared.limits.headers)
        methods = Methods(shared, admin=settings.admin)
        inferences = Inferences(shared)
        health = Health(methods.check_server_ready, methods.check_model_ready)
        self._service = service_of(methods, inferences, InferenceStreams(inferences, shared.limits), health)
        self._admits = everybody if settings.token_file is None else with_tokens(settings.token_file)
        self._open_calls = OpenCalls(shared.limits)
        self._bound: Bound | None = None
        self._listener: Listener | None = None

    def start(self) -> str:
        """Listen; returns the address with the port that was bound.

        Raises:
            EnvironmentFault: the address cannot be bound.
            UserFault: a file of the TLS settings cannot be used.
        """
        tls = _tls(self._settings)
        self._bound = bind(self._settings.address)
        self._listener = Listener(self._bound.socket, self._connected, self._limits, tls)
        self._listener.resume()
        _log.info("gRPC on %s", self._bound.address)
        return self._bound.address

    def sweep(self, now_s: float) -> None:
        """End what has taken too long. Call about once a second."""
        if self._listener is not None:
            self._open_calls.sweep(now_s)
            self._listener.sweep(now_s)

    async def stop(self, limit_s: float) -> None:
        """Accept nothing new and return when what was accepted is answered, or the time is up: then it is cancelled."""
        listener, bound = self._listener, self._bound
        if listener is None or bound is None:
            return
        bound.remove()
        await listener.stop()
        self._open_calls.drain()
        listener.connections.drain()
        await _empty(listener.connections, limit_s)
        listener.connections.close()
        await _empty(listener.connections, self._limits.linger_s)

    def _connected(self, connections: Connections) -> Connection:
        opening = Opening(self._service, self._admits, self._open_calls, connections, self._limits)
        return Connection(opening, self._http2_limits, self._limits, connections)


async def _empty(connections: Connections, limit_s: float) -> None:
    """Wait until all have ended, or that long."""
    end_s = time.monotonic() + limit_s
    while len(connections) and time.monotonic() < end_s:
        connections.sweep(time.monotonic())
        await asyncio.sleep(_SWEEP_S)


def _tls(settings: GrpcSettings) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    from ...http.tls import server_context  # OpenSSL costs 3 MB: only where it is spoken

    return server_context(settings.tls, "h2")
