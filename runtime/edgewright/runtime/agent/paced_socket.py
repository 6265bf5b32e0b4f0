"""A socket whose peer must keep a pace: a server that drips or talks without an end cannot hold a download up."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What the peer must keep."""

    silence_s: float = 30.0
    window_s: float = 60.0
    window_bytes: int = 1024
    """At least so many bytes in each window; the slowest radio links are ten times faster."""
    head_bytes: int = 256 * 1024
    """At most so many bytes, interim answers included, before `head_is_over`."""
    clock: Callable[[], float] = time.monotonic


class PacedSocket:
    """Stands in for the socket of an `http.client` connection."""

    def __init__(self, connection: socket.socket, pace: Pace) -> None:
        self._connection = connection
        self._reader = _PacedReader(connection, pace)

    def head_is_over(self) -> None:
        """From now on the caller bounds what it reads."""
        self._reader.head_bytes_left = None

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode
        return io.BufferedReader(self._reader)

    def sendall(self, content: Any) -> None:
        self._connection.sendall(content)

    def close(self) -> None:
        """Do nothing: http.client closes its socket while it still reads the answer. See `hang_up`."""

    def hang_up(self) -> None:
        """Close the connection."""
        self._connection.close()


class _PacedReader(io.RawIOBase):
    def __init__(self, connection: socket.socket, pace: Pace) -> None:
        self._connection = connection
        self._pace = pace
        self.head_bytes_left: int | None = pace.head_bytes
        self._window_ends_s = pace.clock() + pace.window_s
        self._window_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        pace = self._pace
        left_s = self._window_ends_s - pace.clock()
        if left_s <= 0:
            if self._window_bytes < pace.window_bytes:
                raise TimeoutError(f"only {self._window_bytes} bytes in {pace.window_s:g} s")
            self._window_bytes, left_s = 0, pace.window_s
            self._window_ends_s = pace.clock() + left_s
        self._connection.settimeout(min(pace.silence_s, left_s + 0.001))
        size = self._receive(buffer)
        self._window_bytes += size
        if self.head_bytes_left is not None:
            self.head_bytes_left -= size
            if self.head_bytes_left < 0:
                raise OSError(f"the head of the answer is longer than {pace.head_bytes} bytes")
        return size

    def _receive(self, buffer: Any) -> int:
        try:
            return self._connection.recv_into(buffer)
        except TimeoutError:
            raise TimeoutError(f"only {self._window_bytes} bytes in {self._pace.window_s:g} s, or silence") from None
