"""A client of HTTP/2 that says whatever it is told to, right or wrong, and takes down what comes back.

It is strict about what a server sends: what RFC 9113 forbids fails the test. Header blocks are read by `hpack`.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from hpack import Decoder

from tests.contract.grpc.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    LIVE,
    PADDED,
    PING,
    PREFACE,
    RESET,
    SETTINGS,
    WIDEST,
    WINDOW,
    WITH_PRIORITY,
    Field,
    frame,
    head,
    message,
    ping,
    settings,
    window,
)

SILENCE_S = 30.0
"""A server that says nothing for so long says nothing at all."""
_AT_ONCE_BYTES = 256 * 1024


@dataclass
class Answer:
    """What the server has said on one stream."""

    heads: list[dict[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    sizes: list[int] = field(default_factory=list)
    """Lengths of its DATA frames."""
    ended: bool = False
    reset: int | None = None

    @property
    def done(self) -> bool:
        return self.ended or self.reset is not None

    @property
    def http_status(self) -> bytes | None:
        return self.heads[0].get(b":status") if self.heads else None

    @property
    def grpc_status(self) -> int | None:
        """Return the status of the call, where it has come."""
        found = self.heads[-1].get(b"grpc-status") if self.heads else None
        return None if found is None else int(found)

    @property
    def messages(self) -> list[bytes]:
        """Return the messages of the body, each complete."""
        found, rest = [], bytes(self.body)
        while rest:
            flag, size = struct.unpack_from(">BI", rest)
            assert flag == 0, "the server compresses nothing"
            assert len(rest) >= 5 + size, "half a message"
            found.append(rest[5 : 5 + size])
            rest = rest[5 + size :]
        return found


class Peer:
    """One connection. `until` reads what the server says; beside what a test sends, settings and pings are answered."""

    def __init__(
        self,
        address: str,
        *more: bytes,
        greeting: bytes | None = None,
        tls: ssl.SSLContext | None = None,
        receive_bytes: int | None = None,
    ) -> None:
        """Connect and greet with windows as wide as they can be, or with the bytes of `greeting`."""
        self._socket = connect(address, receive_bytes)
        self.protocol: str | None = None  # what ALPN has chosen
        if tls is not None:
            secured = tls.wrap_socket(self._socket, server_hostname="localhost")
            self._socket, self.protocol = secured, secured.selected_alpn_protocol()
        self._rest = b""
        self._decoder = Decoder()
        self._block: tuple[int, int, bytes] | None = None
        self._numbers = itertools.count(1)
        self.answers: dict[int, Answer] = {}
        self.kinds: list[int] = []
        """Of all frames that came, in their order."""
        self.pongs: list[bytes] = []
        self.goaways: list[tuple[int, int]] = []
        """Last stream and error code of each."""
        self.settings: dict[int, int] = {}
        self.acknowledged = 0
        self.windows: dict[int, int] = {0: DEFAULT_WINDOW}
        """What may be sent: of the connection (0), and of streams."""
        self.closed = False
        default = PREFACE + settings((INITIAL_WINDOW, WIDEST)) + window(0, WIDEST - DEFAULT_WINDOW)
        self.send(default if greeting is None else greeting, *more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *parts: bytes) -> None:
        """Send; a server that has closed the connection is no error here, but in what is expected of it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            self._socket.sendall(b"".join(parts))

    def push(self, data: bytes, patience_s: float = 1.0) -> bool:
        """Send without reading; False where the server has closed, or takes no more for so long."""
        self._socket.settimeout(patience_s)
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        finally:
            self._socket.settimeout(SILENCE_S)
        return True

    def finish(self) -> None:
        """Say that nothing more will be sent, on TCP."""
        self._socket.shutdown(socket.SHUT_WR)

    def until(self, condition: Callable[[], bool]) -> bool:
        """Read until something is true or the connection has ended; returns whether it is true."""
        while not (met := condition()) and not self.closed:
            self._read()
        return met

    def answer(self, stream: int) -> Answer:
        """Return what came on a stream until it, or the connection, ended."""
        self.until(lambda: stream in self.answers and self.answers[stream].done)
        return self.answers.get(stream, Answer())

    def alive(self) -> bool:
        """Say whether the server has taken everything so far, and answers a ping on this connection."""
        payload = next(self._numbers).to_bytes(8, "big")
        self.send(ping(payload))
        return self.until(lambda: payload in self.pongs)

    def upload(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Send a body as the windows allow, until the server has ended the stream."""
        view = memoryview(data)
        self.until(lambda: INITIAL_WINDOW in self.settings or len(self.kinds) > 0)
        self.windows.setdefault(stream, self.settings.get(INITIAL_WINDOW, DEFAULT_WINDOW))
        while view:
            self.until(lambda: self._room(stream) > 0 or self._over(stream))
            if self._over(stream) or self.closed:
                return
            size = min(len(view), self._room(stream), _AT_ONCE_BYTES)
            last = end and size == len(view)
            pieces = [view[at : min(at + FRAME_BYTES, size)] for at in range(0, size, FRAME_BYTES)]
            self.send(
                *(frame(DATA, 0, stream, bytes(piece)) for piece in pieces[:-1]),
                frame(DATA, END_STREAM if last else 0, stream, bytes(pieces[-1])),
            )
            self.windows[0] -= size
            self.windows[stream] -= size
            view = view[size:]

    def _room(self, stream: int) -> int:
        return min(self.windows[0], self.windows[stream])

    def _over(self, stream: int) -> bool:
        return stream in self.answers and self.answers[stream].done

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 18)
        except TimeoutError:
            raise AssertionError(f"the server says nothing; it said {self.kinds[-20:]} {self.answers}") from None
        except (ConnectionResetError, ssl.SSLError):
            data = b""
        self.closed = not data
        self._rest += data
        while len(self._rest) >= 9:
            size = int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < 9 + size:
                return
            kind, flags, stream = struct.unpack_from(">BBI", self._rest, 3)
            payload, self._rest = self._rest[9 : 9 + size], self._rest[9 + size :]
            assert size <= FRAME_BYTES, "a frame that the client has not allowed"
            self.kinds.append(kind)
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None:
            assert (kind, stream) == (CONTINUATION, self._block[0]), "a header block with something in between"
        if kind == SETTINGS and not flags & ACK:
            self._set(payload)
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == SETTINGS:
            self.acknowledged += 1
        elif kind == PING and flags & ACK:
            self.pongs.append(payload)
        elif kind == PING:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            last, code = struct.unpack_from(">II", payload)
            self.goaways.append((last, code))
        elif kind == WINDOW:
            (increment,) = struct.unpack(">I", payload)
            before = self.windows.get(stream, self.settings.get(INITIAL_WINDOW, DEFAULT_WINDOW))
            self.windows[stream] = before + increment
            assert increment > 0
            assert self.windows[stream] <= WIDEST
        else:
            self._take_of_stream(kind, flags, stream, payload)

    def _set(self, payload: bytes) -> None:
        before = self.settings.get(INITIAL_WINDOW, DEFAULT_WINDOW)
        self.settings.update(struct.iter_unpack(">HI", payload))
        for stream in self.windows:
            self.windows[stream] += self.settings.get(INITIAL_WINDOW, DEFAULT_WINDOW) - before if stream else 0

    def _take_of_stream(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        assert stream % 2 == 1, "an answer on a stream that no client opens"
        answer = self.answers.setdefault(stream, Answer())
        assert not answer.ended or kind == RESET, "something behind the end of an answer"
        if kind == RESET:
            (answer.reset,) = struct.unpack(">I", payload)
        elif kind == DATA:
            assert answer.heads, "a body before its head"
            data = payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
            answer.body += data
            answer.sizes.append(len(payload))
            answer.ended = bool(flags & END_STREAM)
        elif kind in {HEADERS, CONTINUATION}:
            self._take_block(kind, flags, stream, payload)
        else:
            raise AssertionError(f"a frame of kind {kind} from a server")

    def _take_block(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            assert not flags & (PADDED | WITH_PRIORITY), "this reader knows neither, and no server has a reason for it"
            self._block = stream, flags, b""
        assert self._block is not None
        self._block = stream, self._block[1], self._block[2] + payload
        if flags & END_HEADERS:
            decoded = self._decoder.decode(self._block[2], raw=True)
            self.answers[stream].heads.append({bytes(name): bytes(value) for name, value in decoded})
            self.answers[stream].ended = bool(self._block[1] & END_STREAM)
            self._block = None


def connect(address: str, receive_bytes: int | None = None) -> socket.socket:
    """Connect to `host:port` or `unix:/path`, with a buffer for what comes of about `receive_bytes`."""
    if address.startswith("unix:"):
        found = socket.socket(socket.AF_UNIX)
    else:
        found = socket.socket(socket.AF_INET)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_bytes is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    found.settimeout(SILENCE_S)
    host, _, port = address.rpartition(":")
    found.connect(address.removeprefix("unix:") if address.startswith("unix:") else (host, int(port)))
    return found


def unary(address: str, path: bytes = LIVE, body: bytes | None = None, *more: Field) -> Answer:
    """Make one call on a connection of its own."""
    with Peer(address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, head(path, *more)))
        peer.upload(1, message() if body is None else body)
        return peer.answer(1)


def served(address: str) -> bool:
    """Say whether somebody who comes now is served."""
    return unary(address).grpc_status == 0
