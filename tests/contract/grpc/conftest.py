"""A server of our own that serves gRPC: `digits`, `echo`, and `slow`, which takes a tenth of a second for many rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import GrpcSettings
from tests.runtime.small_bundle import DATATYPES, SmallBundle, digits_bundle, echo_bundle

SLOW_ROWS = 4096


@dataclass(frozen=True)
class GrpcRunning:
    """A running server whose gRPC address may also change models."""

    child: ServerChild
    address: str
    bundles: tuple[SmallBundle, ...]

    def load_all(self) -> None:
        """Put every model in service, also those that a test has unloaded."""
        for bundle in self.bundles:
            reply = self.child.load(bundle.directory, bundle.manifest.model, "1", bundle.digest)
            assert isinstance(reply, Done), reply


@pytest.fixture(scope="session")
def grpc_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcRunning]:
    base = tmp_path_factory.mktemp("grpc")
    bundles = (
        digits_bundle(base / "digits-1"),
        echo_bundle(base / "echo-1", (*DATATYPES, "BYTES")),
        digits_bundle(base / "slow-1", hidden=4096, name="slow"),
    )
    grpc = GrpcSettings(address="127.0.0.1:0", admin=True)
    with listen_tcp() as tcp, ServerChild([tcp], base, grpc=grpc) as child:
        assert child.grpc_address is not None
        running = GrpcRunning(child, child.grpc_address, bundles)
        running.load_all()
        yield running
        assert isinstance(child.ping(), Done), "the server must outlive its tests"


@pytest.fixture(scope="session")
def grpc_address(grpc_running: GrpcRunning) -> str:
    """Return `host:port` of a gRPC server with the models `digits`, `echo` and `slow`."""
    return grpc_running.address


def image(rows: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(3).uniform(size=(rows, 64)).astype(np.float32)
