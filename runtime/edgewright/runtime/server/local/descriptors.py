"""Messages with descriptors, and who sent them."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from .frames import MESSAGE_BYTES, BadFrame

_INT_BYTES = array.array("i").itemsize
_CREDENTIALS = struct.Struct("3i")
_ROOM = socket.CMSG_SPACE(_INT_BYTES)


@dataclass(frozen=True, slots=True)
class Received:
    """One message; whoever gets it closes its descriptor."""

    data: bytes
    descriptor: int | None


def receive(connection: socket.socket) -> Received:
    """Return the next message; empty data is the end.

    Raises:
        BadFrame: it was too long, or came with more than one descriptor. None is left open.
        OSError: the connection is gone, or (`BlockingIOError`) nothing has come.
    """
    data, ancillary, flags, _ = connection.recvmsg(MESSAGE_BYTES, _ROOM, socket.MSG_CMSG_CLOEXEC)
    descriptors = _descriptors(ancillary)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(descriptors) > 1:
        close_all(descriptors)
        raise BadFrame(f"a message takes at most {MESSAGE_BYTES} bytes and one descriptor")
    return Received(data, descriptors[0] if descriptors else None)


def send(connection: socket.socket, data: bytes, descriptor: int | None) -> None:
    """Send one message, whole or not at all; the descriptor stays the caller's.

    Raises:
        OSError: the connection is gone, or (`BlockingIOError`) there is no room.
    """
    ancillary = (
        []
        if descriptor is None
        else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor.to_bytes(_INT_BYTES, "little"))]
    )
    connection.sendmsg([data], ancillary)


def stop_receiving(connection: socket.socket) -> None:
    """Let no message in any more, and throw away what has come.

    A socket that is closed while messages wait in it resets the connection, and the client never reads its last answer.
    """
    connection.setblocking(False)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
        while True:
            try:
                received = receive(connection)
            except BadFrame:
                continue
            close_all(() if received.descriptor is None else (received.descriptor,))
            if not received.data:
                return


def peer_uid(connection: socket.socket) -> int:
    """Return the user who connected, as the kernel noted it then (SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % _INT_BYTES])
    return found.tolist()
