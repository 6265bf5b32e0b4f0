"""Where the gRPC port listens, and what takes its place."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewright.runtime.server.http.exposure import Exposed
from edgewright.runtime.server.v2.grpc.address import Bound, bind, check_address
from edgewright.runtime.serving import GrpcSettings
from edgewright.targets.faults import EnvironmentFault, UserFault


@contextlib.contextmanager
def bound(address: str) -> Iterator[Bound]:
    found = bind(address)
    with found.socket:
        yield found


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_two_servers_on_one_port(host: str) -> None:
    if host == "[::1]" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with bound(f"{host}:0") as first:
        port = first.socket.getsockname()[1]
        assert first.address == f"{host}:{port}"
        with bound(first.address) as second:
            assert second.address == first.address
        first.remove()  # there is no file


@pytest.mark.parametrize(
    "address", ["nonsense", ":8001", "host:", "host:port", "unix:relative", "127.0.0.1", "127.0.0.1:99999"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UserFault, match="expected host:port"):
        check_address(GrpcSettings(address=address))


def test_strangers_are_not_served() -> None:
    for address in ("0.0.0.0:0", "[::]:0", "board.local:1"):
        with pytest.raises(Exposed):
            check_address(GrpcSettings(address=address))
        check_address(GrpcSettings(address=address, token_file="/t"))
    check_address(GrpcSettings(address="unix:/anywhere"))


@pytest.mark.parametrize("address", ["absent.invalid:1", "unix:/absent/folder/s", "unix:/" + "x" * 200])
def test_what_cannot_be_bound_is_a_sentence(address: str) -> None:
    with pytest.raises(EnvironmentFault, match="gRPC cannot listen on "):
        bind(address)


def test_a_port_of_somebody_else_is_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(EnvironmentFault, match="in use"):
        bind(f"127.0.0.1:{other.getsockname()[1]}")


def test_the_next_server_takes_the_path_and_the_last_one_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = os.umask(0)
    try:
        with bound(f"unix:{path}") as first:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with bound(f"unix:{path}") as second:
                first.remove()
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
                    second.socket.accept()[0].close()
                second.remove()
                assert list(tmp_path.iterdir()) == []
                second.remove()
    finally:
        os.umask(before)


def test_what_a_server_left_is_replaced_and_what_is_no_socket_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for left in (path, tmp_path / "s~"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))
    with bound(f"unix:{path}"):
        assert [each.name for each in tmp_path.iterdir()] == ["s"]
    for name in ("s", "s~"):
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        (folder / name).write_text("a letter")
        with pytest.raises(EnvironmentFault, match="is no socket"):
            bind(f"unix:{folder / 's'}")
        assert (folder / name).read_text() == "a letter"
