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
from edgewright.runtime.server.local.sealed import sealed_memory
from edgewright.runtime.serving import ListenerSettings
from tests.runtime.client.conftest import Served, served  # noqa: F401 - a fixture
from tests.runtime.server.local.test_sealed import HOSTILE, SIZE

ROWS = 64
IMAGES = np.random.default_rng(3).uniform(size=(ROWS, 64)).astype(np.float32)
TENSOR = {"name": "image", "shape": [ROWS, 64], "datatype": "FP32", "parameters": {"binary_data_size": IMAGES.nbytes}}
HEAD = json.dumps({"inputs": [TENSOR], "parameters": {"binary_data_output": True}}).encode()
TENSORS = IMAGES.tobytes()
TARGET = "/v2/models/digits/infer"


@pytest.fixture
def connection(served: Served) -> Iterator[socket.socket]:  # noqa: F811
    with connect(served) as connected:
        yield connected
    with Client(served.tensors) as client:
        assert client.ready("digits"), "the server must outlive its clients"


def connect(served: Served) -> socket.socket:  # noqa: F811
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connected.settimeout(60)
    connected.connect(served.tensors.removeprefix("tensors://"))
    return connected


def call(number: int = 1, **changes: Any) -> Call:
    fields = {"target": TARGET, "memfd_bytes": len(TENSORS), **changes}
    return Call(number, **fields)


def message(number: int = 1, **changes: Any) -> bytes:
    return encode(call(number, **changes), [HEAD])


def answer(connection: socket.socket) -> tuple[Reply, memoryview]:
    received = receive(connection)
    assert received.descriptor is None
    return decode(received.data, Reply)


def ask(connection: socket.socket, message: bytes, descriptors: list[int]) -> tuple[Reply, memoryview]:
    socket.send_fds(connection, [message], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return answer(connection)


def test_tensors_in_sealed_memory(served: Served, connection: socket.socket) -> None:  # noqa: F811
    reply, body = ask(connection, message(7), [sealed_memory([TENSORS])])
    assert (reply.call, reply.status) == (7, 200)
    found = np.frombuffer(body[reply.json_bytes :], np.float32).reshape(ROWS, 10)
    np.testing.assert_allclose(found, served.digits.run({"image": IMAGES})["scores"], rtol=1e-5)


def test_a_memfd_that_is_announced_and_does_not_come(connection: socket.socket) -> None:
    assert ask(connection, message(), [])[0].status == 400


def test_a_small_body_in_the_message(connection: socket.socket) -> None:
    image = {**TENSOR, "shape": [1, 64], "parameters": {"binary_data_size": 256}}
    head = json.dumps({"inputs": [image]}).encode()
    small = Call(1, TARGET, json_bytes=len(head))
    assert ask(connection, encode(small, [head, bytes(256)]), [])[0].status == 200
    assert ask(connection, encode(Call(2, TARGET, json_bytes=0), [bytes(256)]), [])[0].status == 200
    assert ask(connection, encode(Call(3, TARGET, json_bytes=9999), [head]), [])[0].status == 400


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_descriptors(connection: socket.socket, name: str) -> None:
    reply, body = ask(connection, message(memfd_bytes=SIZE), [HOSTILE[name]()])
    assert (reply.call, reply.status) == (1, 400)
    assert json.loads(bytes(body))["error"]


def test_a_memfd_that_is_sealed_after_it_was_sent(connection: socket.socket) -> None:
    """What counts is what the server sees when it looks; if the seals are there then, they stay."""
    descriptor = os.memfd_create("late", os.MFD_ALLOW_SEALING)
    os.write(descriptor, TENSORS)
    socket.send_fds(connection, [message()], [descriptor])
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    os.close(descriptor)
    assert answer(connection)[0].status in {200, 400}


def test_a_memfd_that_somebody_tries_to_cut_while_it_is_used(connection: socket.socket) -> None:
    """An unsealed one is refused, whatever happens to it at the same time: never SIGBUS."""
    for number in range(1, 50):
        descriptor = os.memfd_create("cut", os.MFD_ALLOW_SEALING)
        os.write(descriptor, TENSORS)
        socket.send_fds(connection, [message(number)], [descriptor])
        os.truncate(descriptor, 0)
        os.close(descriptor)
        assert answer(connection)[0].status == 400


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"memfd_bytes": len(TENSORS) + 1}, 400),
        ({"memfd_bytes": len(TENSORS) - 1}, 400),
        ({"memfd_bytes": 0}, 400),
        ({"memfd_bytes": 2**40}, 413),
        ({"target": "/v2/models/absent/infer"}, 404),
        ({"target": "/v2/models/ü/infer"}, 400),
        ({"target": ""}, 400),
        ({"method": "DELETE"}, 405),
        ({"method": "GET\nserver INFO"}, 400),
        ({"method": ""}, 400),
        ({"target": "/v2/models/digits/infer\nserver"}, 400),
        ({"target": "/v2/models/digits /infer"}, 400),
    ],
)
def test_calls_that_do_not_fit(connection: socket.socket, changes: dict[str, Any], status: int) -> None:
    reply, body = ask(connection, message(**changes), [sealed_memory([TENSORS])])
    assert reply.status == status, bytes(body)
    assert json.loads(bytes(body))["error"]
    assert ask(connection, message(2), [sealed_memory([TENSORS])])[0].status == 200


@pytest.mark.parametrize(
    "wrong",
    [b"x", b"\xff\xff", b"\x02\x00{}", b"\x05\x00hello", message(0), b"\x00" * 40_000],
    ids=["short", "long prefix", "empty envelope", "no json", "call 0", "zeros"],
)
def test_messages_that_are_none_end_the_connection(connection: socket.socket, wrong: bytes) -> None:
    reply, body = ask(connection, wrong, [sealed_memory([TENSORS])])
    assert (reply.call, reply.status) == (0, 400)
    assert json.loads(bytes(body))["error"]
    assert receive(connection).data == b""


def test_many_descriptors_end_the_connection(connection: socket.socket) -> None:
    reply, _ = ask(connection, message(), [sealed_memory([TENSORS]) for _ in range(20)])
    assert (reply.call, reply.status) == (0, 400)


def test_calls_that_run_at_one_time(connection: socket.socket) -> None:
    for number in range(1, 31):
        descriptor = sealed_memory([TENSORS])
        socket.send_fds(connection, [message(number)], [descriptor])
        os.close(descriptor)
    assert {answer(connection)[0].call for _ in range(30)} == set(range(1, 31))


def test_a_client_that_reads_no_answers_stops_being_read(connection: socket.socket) -> None:
    connection.setblocking(False)
    sent = 0
    end_s = time.monotonic() + 60
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
    return maps, sum("memfd:edgewright-tensors" in name for name in open_files(child))


def open_files(child: ServerChild) -> list[str]:
    """What the server has open; what it closes while we look is not among it."""
    names = []
    for link in Path(f"/proc/{child.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(link.readlink()))
    return sorted(names)


def eventually(condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + 60
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.02)
    return condition()


def test_a_client_that_leaves_takes_everything_with_it(served: Served) -> None:  # noqa: F811
    for _ in range(20):
        with connect(served) as connection:
            for number in range(1, 6):
                descriptor = sealed_memory([TENSORS])
                socket.send_fds(connection, [message(number)], [descriptor])
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
