"""A fleet's HTTP server that lies: everything it does costs bounded time and memory, and ends in the right archive."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgewright.runtime.agent.credentials import Credentials, MqttAddress
from edgewright.runtime.agent.fetch import Downloads, FetchFault, FetchLimits
from edgewright.runtime.agent.http_source import HttpSource
from edgewright.runtime.agent.jobs import Cancelled
from edgewright.runtime.agent.paced_socket import Pace
from edgewright.runtime.storage import LocalStorage

CONTENT = bytes(range(256)) * 400
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT)

Say = Callable[[bytes], None]
Answer = Callable[[Say], None]


def forever(say: Say, *, begin: bytes, again: bytes, pause_s: float = 0.0) -> None:
    say(begin)
    while True:
        say(again)
        time.sleep(pause_s)


LIES: dict[str, Answer] = {
    "endless body": lambda say: forever(say, begin=b"HTTP/1.1 200 OK\r\n\r\n", again=bytes(65536)),
    "endless header fields": lambda say: forever(say, begin=b"HTTP/1.1 200 OK\r\n", again=b"X-Y: " + b"z" * 1000),
    "endless interim answers": lambda say: forever(say, begin=b"", again=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless status line": lambda say: forever(say, begin=b"HTTP/1.1 200 ", again=b"O" * 4096),
    "head that drips": lambda say: forever(say, begin=b"HTTP/1.1 200 OK\r\nX: ", again=b"y", pause_s=0.05),
    "body that drips": lambda say: forever(say, begin=HEAD, again=b"y", pause_s=0.05),
    "silence": lambda _say: time.sleep(1.0),
    "silence after the head": lambda say: forever(say, begin=HEAD, again=b"", pause_s=0.2),
    "redirection": lambda say: say(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    "another range": lambda say: say(
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 7-8/9\r\nContent-Length: 2\r\n\r\nxx"
    ),
    "corrupt bytes": lambda say: say(HEAD + CONTENT[:-1] + b"!"),
    "truncated": lambda say: say(HEAD + CONTENT[:1000]),
    "bad chunk": lambda say: say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n"),
    "endless trailers": lambda say: forever(
        say, begin=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", again=b"a: b\r\n", pause_s=0.01
    ),
    "no HTTP": lambda say: say(b"\x16\x03\x01 hello \r\n\r\n"),
}


class Liar:
    """Answers the first requests with lies, and the others honestly, if it ever does."""

    def __init__(self, lie: Answer, lies: int) -> None:
        self.lies_left = lies
        self._lie = lie
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._serve, daemon=True)
        self._accepting.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            asked = connection.recv(65536).decode()
            self.lies_left -= 1
            if self.lies_left >= 0:
                self._lie(connection.sendall)
                return
            start = int(asked.split("bytes=")[1].split("-")[0]) if "bytes=" in asked else 0
            part = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes %d-%d/%d\r\n" % (
                start,
                len(CONTENT) - 1,
                len(CONTENT),
            )
            head = part if start else b"HTTP/1.1 200 OK\r\n"
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % (len(CONTENT) - start) + CONTENT[start:])

    def close(self) -> None:
        """End the thread first: its next `accept` would take this socket's number, which may be that of another."""
        with contextlib.suppress(OSError):  # elsewhere than on Linux
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        self._listener.close()


@pytest.fixture
def make_liar() -> Iterator[Callable[[str, int], Liar]]:
    made: list[Liar] = []

    def make(lie: str, lies: int) -> Liar:
        made.append(Liar(LIES[lie], lies))
        return made[-1]

    yield make
    for liar in made:
        liar.close()


def source(liar: Liar) -> HttpSource:
    url = f"http://127.0.0.1:{liar.port}"
    pace = Pace(silence_s=0.2, window_s=0.4, window_bytes=1024)
    return HttpSource(
        Credentials(tenant="t", device="d", secret="ab", mqtt=MqttAddress(host="h", port=1), fleet_url=url), pace
    )


def fetch(liar: Liar, directory: Path, deadline_s: float) -> bytes:
    downloads = Downloads(LocalStorage(), directory, FetchLimits(max_bytes=10**6, deadline_s=deadline_s))
    return downloads.fetch(DIGEST, "/x", len(CONTENT), source(liar), Cancelled()).read_bytes()


@pytest.mark.parametrize("lie", LIES)
def test_one_lie_costs_little_and_the_archive_comes(
    lie: str, make_liar: Callable[[str, int], Liar], tmp_path: Path
) -> None:
    begun_s = time.monotonic()
    assert fetch(make_liar(lie, 1), tmp_path / "downloads", 60.0) == CONTENT
    assert time.monotonic() - begun_s < 30, "its own silence or pace ended the lie, not the deadline of the whole"


@pytest.mark.parametrize("lie", ["body that drips", "head that drips", "silence", "endless interim answers"])
def test_server_that_only_lies_is_given_up_in_time(
    lie: str, make_liar: Callable[[str, int], Liar], tmp_path: Path
) -> None:
    begun_s = time.monotonic()
    with pytest.raises(FetchFault, match="gave up after 1 s"):
        fetch(make_liar(lie, 10**6), tmp_path / "downloads", 1.0)
    assert time.monotonic() - begun_s < 30
