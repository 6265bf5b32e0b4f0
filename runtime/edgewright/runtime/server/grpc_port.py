"""gRPC, where the server is told to serve it: nothing of it is imported otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewright.targets.faults import EnvironmentFault

from ..serving import GrpcSettings
from .v2.shared import Shared

if TYPE_CHECKING:
    from .v2.grpc.server import GrpcServer


def grpc_server(settings: GrpcSettings, shared: Shared) -> GrpcServer:
    """Return the gRPC side of a server, not started.

    Raises:
        EnvironmentFault: hpack or protobuf is not installed.
        UserFault: strangers could reach the address, or its tokens cannot be read.
    """
    try:
        # Imported here because it takes some megabytes, which devices without gRPC keep.
        from .v2.grpc.server import GrpcServer
    except ImportError as error:
        raise EnvironmentFault(
            f"gRPC is to be served on {settings.address}, but {error.name or 'a part of it'} is not installed here; "
            "install edgewright[grpc], or leave out the gRPC address"
        ) from error
    return GrpcServer(settings, shared)
