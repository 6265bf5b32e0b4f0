"""A listener that ends: whom the kernel has taken in already is served, whoever comes later is told at once."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.runtime.server.child import listen_tensors
from edgewright.runtime.server.http.connection import Connection
from edgewright.runtime.server.http.listener import Listener
from edgewright.runtime.server.http.messages import Request, Respond, Response
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.local.listener import TensorListener


def answer(request: Request, respond: Respond) -> None:
    respond(Response(200, [request.target]))


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(2000):
        if reached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 20 s and more")


CONNECTED = functools.partial(Connection, answer, DEFAULT_LIMITS)


def test_those_who_wait_in_the_queue_are_served_by_a_listener_that_ends() -> None:
    async def scenario() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        clients = [socket.create_connection(address) for _ in range(5)]
        listener = Listener(listening, CONNECTED, DEFAULT_LIMITS)
        listener.resume()
        await listener.stop()
        assert len(listener.connections) == len(clients)
        for client in clients:
            reader, writer = await asyncio.open_connection(sock=client)
            writer.write(b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"\r\n\r\n/x")
            writer.close()
            await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    asyncio.run(scenario())


def test_a_listener_that_never_began_leaves_the_queue_to_the_other_server() -> None:
    async def scenario() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listening.getsockname())
        listener = Listener(listening.dup(), CONNECTED, DEFAULT_LIMITS)
        listener.sweep(1.0)
        for _ in range(10):
            await asyncio.sleep(0)
        await listener.stop()
        assert len(listener.connections) == 0
        accepted, _ = listening.accept()
        for each in (accepted, client, listening):
            each.close()

    asyncio.run(scenario())


def test_a_listener_that_waits_for_its_turn_takes_nobody_however_often_it_is_swept(tmp_path: Path) -> None:
    """A server is swept from its start, and may begin much later: the one before it is still in service."""

    async def scenario() -> None:
        tcp, tensors = socket.create_server(("127.0.0.1", 0)), listen_tensors(tmp_path / "tensors")
        clients = [socket.create_connection(tcp.getsockname()), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
        clients[1].connect(str(tmp_path / "tensors"))
        listeners: list[Listener | TensorListener]
        listeners = [Listener(tcp, CONNECTED, DEFAULT_LIMITS), TensorListener(tensors, answer, DEFAULT_LIMITS)]
        for listener in listeners:
            listener.sweep(1.0)
            listener.connections.on_room()
        for _ in range(10):
            await asyncio.sleep(0)
        assert [len(listener.connections) for listener in listeners] == [0, 0]
        for listener in listeners:
            listener.resume()
        await until(lambda: [len(listener.connections) for listener in listeners] == [1, 1])
        for listener in listeners:
            await listener.stop()
            listener.connections.close()
        for client in clients:
            client.close()
        await until(lambda: not any(len(listener.connections) for listener in listeners))

    asyncio.run(scenario())
