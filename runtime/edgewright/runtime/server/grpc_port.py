"""gRPC, where the server is told to serve it: nothing of it is imported otherwise."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edgewright.targets.faults import EnvironmentFault

from ..serving import GrpcSettings
from .v2.shared import Shared

if TYPE_CHECKING:
    from .v2.grpc.server import GrpcServer


_FEWER_THREADS = "-event_engine_listener,-event_engine_client"
"""gRPC's sockets are polled by the thread that serves them instead of a pool: 35 of 245 µs less for a call on one core
(grpcio 1.85). Versions that do not know these names say so in the log, and serve as they do."""


def grpc_server(settings: GrpcSettings, shared: Shared) -> GrpcServer:
    """Return the gRPC side of a server, not started.

    Raises:
        EnvironmentFault: grpcio or protobuf is not installed.
        UserFault: strangers could reach the address, or its tokens cannot be read.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", _FEWER_THREADS)
    # Its core writes to stderr what strangers send, byte for byte, and as often as they send it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        # Imported here because it takes 13 MB and a fifth of a second, which devices without gRPC keep.
        from .v2.grpc.server import GrpcServer
    except ImportError as error:
        raise EnvironmentFault(
            f"gRPC is to be served on {settings.address}, but {error.name or 'a part of it'} is not installed here; "
            "install edgewright[grpc], or leave out the gRPC address"
        ) from error
    return GrpcServer(settings, shared)
