"""A real server and clients on its socket for tensors who keep to no rule: it answers, lets go, and lives on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.runtime.client import Client
from edgewright.runtime.server.child import ServerChild, listen_tcp, listen_tensors
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.local.descriptors import receive
from edgewright.runtime.server.local.frames import Call, Reply, decode, encode
from edgewright.runtime.server.local.listener import TensorListener
from edgewright.runtime.server.local.sealed import map_sealed, sealed_memory
from edgewright.runtime.serving import ListenerSettings
from tests.runtime.client.conftest import Served, served  # noqa: F401 - a fixture
from tests.runtime.server.local.test_sealed import HOSTILE, SIZE

ROWS = 64
IMAGES = np.random.default_rng(3).uniform(size=(ROWS, 64)).astype(np.float32)
TENSOR = {"name": "image", "shape": [ROWS, 64], "datatype": "FP32", "parameters": {"binary_data_size": IMAGES.nbytes}}
HEAD = json.dumps({"inputs": [TENSOR], "parameters": {"binary_data_output": True}}).encode()
BODY = HEAD + b" " * (-len(HEAD) % 64) + IMAGES.tobytes()
TARGET = "/v2/models/digits/infer"


@pytest.fixture
def connection(served: Served) -> Iterator[socket.socket]:  # noqa: F811
    with connect(served) as connected:
        yield connected
    with Client(served.tensors) as client:
        assert client.ready("digits"), "the server must outlive its clients"


def connect(served: Served) -> socket.socket:  # noqa: F811
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connected.settimeout(10)
    connected.connect(served.tensors.removeprefix("tensors://"))
    return connected


def call(number: int = 1, **changes: Any) -> Call:
    fields = {"target": TARGET, "body_bytes": len(BODY), "json_bytes": len(BODY) - IMAGES.nbytes, **changes}
    return Call(number, **fields)


def answer(connection: socket.socket) -> tuple[Reply, memoryview]:
    received = receive(connection)
    reply, inline = decode(received.data, Reply)
    if received.descriptor is None:
        return reply, inline
    body = map_sealed(received.descriptor, reply.body_bytes)
    os.close(received.descriptor)
    return reply, body


def ask(connection: socket.socket, message: bytes, descriptors: list[int]) -> tuple[Reply, memoryview]:
    socket.send_fds(connection, [message], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return answer(connection)


def test_tensors_in_sealed_memory(served: Served, connection: socket.socket) -> None:  # noqa: F811
    reply, body = ask(connection, encode(call(7)), [sealed_memory([BODY])])
    assert (reply.call, reply.status) == (7, 200)
    found = np.frombuffer(body[reply.json_bytes :], np.float32).reshape(ROWS, 10)
    np.testing.assert_allclose(found, served.digits.run({"image": IMAGES})["scores"], rtol=1e-5)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_descriptors(connection: socket.socket, name: str) -> None:
    reply, body = ask(connection, encode(call(body_bytes=SIZE)), [HOSTILE[name]()])
    assert (reply.call, reply.status) == (1, 400)
    assert json.loads(bytes(body))["error"]


def test_a_memfd_that_is_sealed_after_it_was_sent(connection: socket.socket) -> None:
    """What counts is what the server sees when it looks; if the seals are there then, they stay."""
    descriptor = os.memfd_create("late", os.MFD_ALLOW_SEALING)
    os.write(descriptor, BODY)
    socket.send_fds(connection, [encode(call())], [descriptor])
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    os.close(descriptor)
    assert answer(connection)[0].status in {200, 400}


def test_a_memfd_that_somebody_tries_to_cut_while_it_is_used(connection: socket.socket) -> None:
    """An unsealed one is refused, whatever happens to it at the same time: never SIGBUS."""
    for number in range(1, 50):
        descriptor = os.memfd_create("cut", os.MFD_ALLOW_SEALING)
        os.write(descriptor, BODY)
        socket.send_fds(connection, [encode(call(number))], [descriptor])
        os.truncate(descriptor, 0)
        os.close(descriptor)
        assert answer(connection)[0].status == 400


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"body_bytes": len(BODY) + 1}, 400),
        ({"body_bytes": len(BODY) - 1}, 400),
        ({"body_bytes": 0}, 400),
        ({"body_bytes": 2**40}, 413),
        ({"json_bytes": 2**40}, 400),
        ({"json_bytes": 5}, 400),
        ({"target": "/v2/models/absent/infer"}, 404),
        ({"target": "/v2/models/ü/infer"}, 400),
        ({"target": ""}, 400),
        ({"method": "DELETE"}, 405),
    ],
)
def test_calls_that_do_not_fit(connection: socket.socket, changes: dict[str, Any], status: int) -> None:
    reply, body = ask(connection, encode(call(**changes)), [sealed_memory([BODY])])
    assert reply.status == status, bytes(body)
    assert json.loads(bytes(body))["error"]
    assert ask(connection, encode(call(2)), [sealed_memory([BODY])])[0].status == 200


@pytest.mark.parametrize(
    "message",
    [b"x", b"\xff\xff", b"\x02\x00{}", b"\x05\x00hello", encode(call(0)), b"\x00" * 40_000],
    ids=["short", "long prefix", "empty envelope", "no json", "call 0", "zeros"],
)
def test_messages_that_are_none_end_the_connection(connection: socket.socket, message: bytes) -> None:
    reply, body = ask(connection, message, [sealed_memory([BODY])])
    assert (reply.call, reply.status) == (0, 400)
    assert json.loads(bytes(body))["error"]
    assert receive(connection).data == b""


def test_many_descriptors_end_the_connection(connection: socket.socket) -> None:
    reply, _ = ask(connection, encode(call()), [sealed_memory([BODY]) for _ in range(20)])
    assert (reply.call, reply.status) == (0, 400)


def test_calls_that_run_at_one_time(connection: socket.socket) -> None:
    for number in range(1, 31):
        descriptor = sealed_memory([BODY])
        socket.send_fds(connection, [encode(call(number))], [descriptor])
        os.close(descriptor)
    assert {answer(connection)[0].call for _ in range(30)} == set(range(1, 31))


def test_a_client_that_reads_no_answers_stops_being_read(connection: socket.socket) -> None:
    connection.setblocking(False)
    sent = 0
    end_s = time.monotonic() + 5
    while time.monotonic() < end_s and sent < 100_000:
        try:
            connection.send(encode(Call(sent + 1, "/metrics", method="GET")))
            sent += 1
        except BlockingIOError:
            break
    assert 0 < sent < 100_000


def held(child: ServerChild) -> tuple[int, int]:
    """Mappings and descriptors of tensors that the server holds."""
    process = Path(f"/proc/{child.process.pid}")
    maps = process.joinpath("maps").read_text().count("memfd:edgewright-tensors")
    names = [str(link.readlink()) for link in process.joinpath("fd").iterdir()]
    return maps, sum("memfd:edgewright-tensors" in name for name in names)


def eventually(condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + 10
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.02)
    return condition()


def test_a_client_that_leaves_takes_everything_with_it(served: Served) -> None:  # noqa: F811
    for _ in range(20):
        with connect(served) as connection:
            for number in range(1, 6):
                descriptor = sealed_memory([BODY])
                socket.send_fds(connection, [encode(call(number))], [descriptor])
                os.close(descriptor)
    assert eventually(lambda: held(served.child) == (0, 0)), held(served.child)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(junk=st.binary(min_size=1, max_size=300), name=st.none() | st.sampled_from(sorted(HOSTILE)))
def test_arbitrary_messages_with_arbitrary_descriptors(served: Served, junk: bytes, name: str | None) -> None:  # noqa: F811
    with connect(served) as connection:
        assert 400 <= ask(connection, junk, [] if name is None else [HOSTILE[name]()])[0].status < 500
    assert served.child.process.poll() is None


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
@pytest.mark.parametrize(("uids", "status"), [((), 403), ((65534,), 200)])
def test_other_users_are_let_in_only_where_that_is_set(tmp_path: Path, uids: tuple[int, ...], status: int) -> None:
    with tempfile.TemporaryDirectory() as folder, listen_tensors(Path(folder) / "t") as listening:
        Path(folder).chmod(0o755)
        Path(folder, "t").chmod(0o777)
        listeners = (ListenerSettings(fd=listening.fileno(), kind="tensors", uids=uids),)
        with ServerChild([listening], tmp_path, listeners=listeners):
            assert status_as_nobody(f"{folder}/t") == status


def status_as_nobody(path: str) -> int:
    """What a process of another user is answered."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connected:
                connected.connect(path)
                with contextlib.suppress(OSError):
                    connected.send(encode(Call(1, "/v2", method="GET")))
                os.write(writing, str(decode(connected.recv(65536), Reply)[0].status).encode())
        finally:
            os._exit(0)
    os.close(writing)
    text = os.read(reading, 100)
    os.close(reading)
    os.waitpid(child, 0)
    return int(text)


def test_a_server_that_drains_lets_its_clients_go(tmp_path: Path) -> None:
    with listen_tensors(tmp_path / "t") as listening:
        listeners = (ListenerSettings(fd=listening.fileno(), kind="tensors"),)
        with (
            ServerChild([listening], tmp_path, listeners=listeners) as child,
            Client(f"tensors://{tmp_path / 't'}") as c,
        ):
            assert c.alive()
            assert child.drain() == 0


def test_a_socket_of_another_kind_is_refused() -> None:
    with listen_tcp() as listening, pytest.raises(ValueError, match="SOCK_SEQPACKET"):
        TensorListener(listening, lambda *_: None, DEFAULT_LIMITS)
