"""Clients on the socket for tensors who say anything, with any descriptors, and leave at any time."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time

from edgewright.runtime.client import Client
from edgewright.runtime.server.local.descriptors import receive
from edgewright.runtime.server.local.frames import Call, Reply, decode, encode
from edgewright.runtime.server.local.sealed import sealed_memory
from tests.runtime.client.conftest import Served, served  # noqa: F401 - a fixture
from tests.runtime.fuzzing import fuzz, mutated
from tests.runtime.server.local.test_sealed import HOSTILE
from tests.runtime.server.local.test_tensor_listener import (
    HEAD,
    TENSORS,
    ask,
    connect,
    eventually,
    held,
    message,
    open_files,
)

WORDS = [b'"call":', b'"memfd_bytes":', b'"json_bytes":', b"9" * 30, b"-1", b"null", b"\0", b"\xff", b"[" * 400, b"{"]
TARGETS = ["/v2", "/v2/models/digits/infer", "/metrics", "/v2/models/echo", "/v2/repository/index", "/x?" + "y" * 8000]


def a_message(chance: random.Random, number: int) -> bytes:
    match chance.randrange(6):
        case 0:
            return chance.randbytes(chance.choice([1, 2, 10, 1000, 60_000]))
        case 1:
            return mutated(message(number), chance, WORDS)[: 60 * 1024] or b"x"
        case 2:
            sizes = [0, 1, len(TENSORS), 2**26, 2**40]
            return message(number, memfd_bytes=chance.choice(sizes), json_bytes=chance.choice([None, 0, 1, 2**40]))
        case 3:
            body = HEAD[: chance.randrange(len(HEAD))]
            return encode(Call(number, chance.choice(TARGETS), method=chance.choice(["GET", "POST", "HEAD"])), [body])
        case 4:
            return encode(Call(number, chance.choice(TARGETS), method="GET"))
        case _:
            return message(number)


MANY = [0, 0, 1, 1, 1, 2, 30]


def sound() -> int:
    return sealed_memory([TENSORS])


def some_descriptors(chance: random.Random) -> list[int]:
    made = [HOSTILE[chance.choice([*HOSTILE])] if chance.random() < 0.3 else sound for _ in range(chance.choice(MANY))]
    return [make() for make in made]


def converse(connection: socket.socket, chance: random.Random) -> None:
    """Say some things, hear some answers, each of which must be one that makes sense, and leave."""
    for number in range(chance.randrange(1, 12)):
        descriptors = some_descriptors(chance)
        try:
            socket.send_fds(connection, [a_message(chance, chance.choice([number, 1]))], descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if chance.random() < 0.3:
            received = receive(connection)
            if received.descriptor is not None:
                os.close(received.descriptor)
            if not received.data:
                return
            reply, _ = decode(received.data, Reply)
            assert reply.status < 500, received.data


def test_anything_said_on_the_socket_for_tensors(served: Served) -> None:  # noqa: F811
    with connect(served) as connection:  # the first answer opens the file of counters
        assert ask(connection, message(), [sound()])[0].status == 200
    before = open_files(served.child)

    def check(chance: random.Random) -> None:
        with connect(served) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.settimeout(5)
            with contextlib.suppress(TimeoutError):  # everything that it said was answered already
                converse(connection, chance)

    def checked(chance: random.Random) -> None:
        begun_s = time.monotonic()
        check(chance)
        assert time.monotonic() - begun_s < 60
        assert served.child.process.poll() is None

    fuzz(checked)
    assert eventually(lambda: held(served.child) == (0, 0)), held(served.child)
    assert eventually(lambda: len(open_files(served.child)) <= len(before)), (before, open_files(served.child))
    with Client(served.tensors) as client:
        assert client.ready("digits")
