"""The gRPC port of a server process: bound, secured, bounded, and drained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from edgewright.targets.faults import EnvironmentFault, UserFault

from ....serving import GrpcSettings, TlsSettings
from ...http.exposure import check_host
from ...limits import Limits
from ..shared import Shared
from .admission import with_tokens
from .health import Health
from .infer import Inferences
from .methods import Methods
from .service import Service, handlers
from .stream import InferenceStreams

_log = logging.getLogger(__name__)

_ENVELOPE_BYTES = 64 * 1024
"""What a message may have beside a body of the largest size."""


class GrpcServer:
    """Serves the V2 protocol on the running event loop."""

    def __init__(self, settings: GrpcSettings, shared: Shared) -> None:
        """Check where it would listen, and read the tokens; listens to nothing before `start`.

        Raises:
            UserFault: strangers could reach the address, it is no address, or the tokens cannot be read.
        """
        self._settings = settings
        self._host = _host(settings)
        self._draining = asyncio.Event()
        methods = Methods(shared, admin=settings.admin)
        inferences = Inferences(shared)
        streams = InferenceStreams(inferences, shared.limits, self._draining)
        health = Health(methods.check_server_ready, methods.check_model_ready, self._draining)
        admits = None if settings.token_file is None else with_tokens(settings.token_file)
        self._server = grpc.aio.server(
            handlers=(Service(handlers(methods, inferences, streams, health), admits),),
            options=_options(shared.limits),
            maximum_concurrent_rpcs=shared.limits.connections,
        )

    async def start(self) -> str:
        """Listen; returns the address with the port that was bound.

        Raises:
            EnvironmentFault: the address cannot be bound, or a file of the TLS settings cannot be used.
        """
        address, tls = self._settings.address, self._settings.tls
        try:
            with _private_socket():
                if tls is None:
                    port = self._server.add_insecure_port(address)
                else:
                    port = self._server.add_secure_port(address, _credentials(tls))
            await self._server.start()
        except OSError as error:
            raise EnvironmentFault(f"gRPC cannot use {error.filename}: {error.strerror}") from error
        except RuntimeError as error:
            raise EnvironmentFault(f"gRPC cannot listen on {address}: {error}") from error
        bound = address if self._host is None else f"{self._host}:{port}"
        _log.info("gRPC on %s", bound)
        return bound

    async def stop(self, limit_s: float) -> None:
        """Accept nothing new and return when what was accepted is answered, or the time is up."""
        self._draining.set()
        await self._server.stop(limit_s)


@contextlib.contextmanager
def _private_socket() -> Iterator[None]:
    """Have what gRPC binds be of mode 0600 where it is a file: nobody else must reach it, whatever the umask is."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _host(settings: GrpcSettings) -> str | None:
    """Return the host of the address, None for a Unix socket."""
    if settings.address.startswith("unix:/"):
        return None
    host, _, port = settings.address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserFault(f"gRPC cannot listen on {settings.address!r}: expected host:port, [host]:port or unix:/path")
    check_host(host.strip("[]"), settings.tls, settings.token_file)
    return host


def _options(limits: Limits) -> Sequence[tuple[str, Any]]:
    return (
        ("grpc.max_receive_message_length", limits.body_bytes + _ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", limits.connections),
        ("grpc.absolute_max_metadata_size", limits.head_bytes),
        # A client that pings more often than every ten seconds gets GOAWAY after a few of these.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 4),
        ("grpc.keepalive_permit_without_calls", 1),
        # A client that vanished without a word is noticed after a minute and twenty seconds.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # The next process of this server binds the port while this one drains.
        ("grpc.so_reuseport", 1),
    )


def _credentials(tls: TlsSettings) -> Any:
    authority = None if tls.client_ca is None else Path(tls.client_ca).read_bytes()
    pair = (Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes())
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
