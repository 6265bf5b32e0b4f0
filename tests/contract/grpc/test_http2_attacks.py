"""Attacks on HTTP/2, by their names: others are served meanwhile, and what they cost the server in memory is bounded.

Bounds are in frames, bytes and connections, never in seconds: an attacker either meets the server's bound or is done.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import GrpcSettings
from tests.contract.grpc.conftest import GrpcRunning
from tests.contract.grpc.peer import Peer, connect, served
from tests.contract.grpc.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_BYTES,
    HEADERS,
    INFER,
    INITIAL_WINDOW,
    LIVE,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    SETTINGS,
    STREAM,
    WIDEST,
    block,
    call,
    frame,
    head,
    integer,
    literal,
    message,
    ping,
    reset,
    settings,
    text,
    window,
)
from tests.runtime.small_bundle import echo_bundle

MB = 2**20
GROWTH_BYTES = 96 * MB
"""More than any one client may cost; an allocator keeps what a bad moment took."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcRunning]:
    """A server of its own: what an attack takes is not mixed with what other tests have taken."""
    base = tmp_path_factory.mktemp("attacked")
    bundles = (echo_bundle(base / "echo-1", ("FP64",)),)
    with listen_tcp() as tcp, ServerChild([tcp], base, grpc=GrpcSettings(address="127.0.0.1:0")) as child:
        assert child.grpc_address is not None
        running = GrpcRunning(child, child.grpc_address, bundles)
        running.load_all()
        for _ in range(20):  # what serving takes once
            assert served(running.address)
        yield running
        assert isinstance(child.ping(), Done), "the server must outlive its attackers"


@pytest.fixture
def bystander(attacked: GrpcRunning) -> Iterator[Callable[[], bool]]:
    """Somebody who was there before, and asks now and then; and whoever else comes."""
    numbers = itertools.count(1, 2)
    with Peer(attacked.address) as peer:

        def is_served() -> bool:
            number = next(numbers)
            peer.send(call(number, LIVE))
            answer = peer.answer(number)
            assert answer.grpc_status == 0, (answer, peer.goaways)
            return True

        assert is_served()
        yield is_served


def pss_bytes(running: GrpcRunning) -> int:
    lines = Path(f"/proc/{running.child.process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@contextlib.contextmanager
def bounded(running: GrpcRunning, growth_bytes: int = GROWTH_BYTES) -> Iterator[Callable[[], None]]:
    """Hold the memory of the server against its bound where asked, and at the end; what is freed may take a moment."""
    before = pss_bytes(running)

    def check() -> None:
        end_s = time.monotonic() + 20
        while (grown := pss_bytes(running) - before) > growth_bytes and time.monotonic() < end_s:
            time.sleep(0.1)
        print(f"{grown / MB:.1f} MB")
        assert grown < growth_bytes

    yield check
    check()


def flood(peer: Peer, frames: Iterator[bytes] | itertools.repeat[bytes], most: int, at_once: int = 500) -> bool:
    """Send frames until the server has ended the connection; False where it took as many as `most`."""
    for _ in range(most // at_once):
        if not peer.push(b"".join(itertools.islice(frames, at_once)), 30):
            return True
    return not peer.alive()


def calmed(peer: Peer) -> None:
    """Expect the end of a connection, and its reason where that was not lost with what had been sent to nobody."""
    peer.until(lambda: False)
    assert peer.closed
    assert {code for _, code in peer.goaways} <= {ENHANCE_YOUR_CALM}


def begin(stream: int, path: bytes = STREAM) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, head(path))


def rapid_reset(stream: int) -> bytes:
    """CVE-2023-44487."""
    return begin(stream) + reset(stream)


def rapid_reset_of_calls(stream: int) -> bytes:
    return call(stream, INFER, message(b"\x0a\x04echo")) + reset(stream)


def made_by_a_window_update(stream: int) -> bytes:
    """CVE-2025-8671: the server is made to reset the stream itself."""
    return begin(stream) + window(stream, 0)


def made_by_an_overflow(stream: int) -> bytes:
    return begin(stream) + window(stream, WIDEST)


def made_by_data_behind_the_end(stream: int) -> bytes:
    return call(stream, b"/grpc.health.v1.Health/Watch") + frame(DATA, END_STREAM, stream, b"x")


def made_by_a_head_behind_the_end(stream: int) -> bytes:
    return call(stream, b"/grpc.health.v1.Health/Watch") + frame(HEADERS, END_HEADERS, stream, block((b"a", b"b")))


def made_by_trailers(stream: int) -> bytes:
    return begin(stream) + frame(HEADERS, END_HEADERS | END_STREAM, stream, block((b":path", b"/")))


def made_by_content_length(stream: int) -> bytes:
    fields = head(STREAM, (b"content-length", b"1"))
    return frame(HEADERS, END_HEADERS, stream, fields) + frame(DATA, 0, stream, message())


def made_by_a_malformed_head(stream: int) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, head(LIVE, (b"Capital", b"x")))


OF_STREAMS = [
    rapid_reset,
    rapid_reset_of_calls,
    made_by_a_window_update,
    made_by_an_overflow,
    made_by_data_behind_the_end,
    made_by_a_head_behind_the_end,
    made_by_trailers,
    made_by_content_length,
    made_by_a_malformed_head,
]


@pytest.mark.parametrize("attack", OF_STREAMS, ids=lambda attack: attack.__name__)
def test_streams_that_are_begun_and_ended_without_end(
    attacked: GrpcRunning, bystander: Callable[[], bool], attack: Callable[[int], bytes]
) -> None:
    frames = map(attack, itertools.count(1, 2))
    with bounded(attacked), Peer(attacked.address) as peer:
        assert flood(peer, frames, 20_000), "20 000 streams for nothing"
        calmed(peer)
        assert bystander()
    assert served(attacked.address)


OF_FRAMES = {
    "settings (CVE-2019-9515)": settings((INITIAL_WINDOW, 100)),
    "empty settings": settings(),
    "settings that are acknowledged again and again": frame(SETTINGS, ACK, 0),
    "ping (CVE-2019-9512)": ping(),
    "pong": frame(PING, ACK, 0, bytes(8)),
    "priority (CVE-2019-9513)": frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 7)),
    "window updates": window(0, 1),
    "unknown frames": frame(0x42, 0, 0),
    "empty data (CVE-2019-9518)": frame(DATA, 0, 1),
    "data that is all padding": frame(DATA, PADDED, 1, b"\x03abc"),
    "data of streams that are over": frame(DATA, 0, 3, b"x"),
    "resets of streams that are over": reset(3),
}


@pytest.mark.parametrize("name", OF_FRAMES)
def test_frames_that_bring_nothing(attacked: GrpcRunning, bystander: Callable[[], bool], name: str) -> None:
    with bounded(attacked), Peer(attacked.address, greeting=PREFACE + settings()) as peer:
        peer.send(begin(1), begin(3), reset(3))
        assert flood(peer, itertools.repeat(OF_FRAMES[name]), 60_000, 2000), "60 000 frames for nothing"
        calmed(peer)
        assert bystander()
    assert served(attacked.address)


@pytest.mark.parametrize("payload", [b"", literal(b"x", b"y" * 120) * 100], ids=["empty", "large"])
def test_a_head_that_goes_on_and_on(attacked: GrpcRunning, bystander: Callable[[], bool], payload: bytes) -> None:
    """CVE-2024-27316."""
    with bounded(attacked), Peer(attacked.address) as peer:
        peer.send(frame(HEADERS, 0, 1, head(INFER)))
        assert flood(peer, itertools.repeat(frame(CONTINUATION, 0, 1, payload)), 20_000, 100)
        calmed(peer)
        assert bystander()


def test_heads_that_the_table_makes_large(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    """The bomb of HPACK: a field of 4 kB enters the table once, and is named in one byte ever after (CVE-2016-6581)."""
    kept = b"\x40" + text(b"x") + text(b"y" * 3900)
    again = head(LIVE) + b"\xbe" * 15_000
    with bounded(attacked), Peer(attacked.address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, head(LIVE) + kept), frame(DATA, END_STREAM, 1, message()))
        assert peer.answer(1).done
        heads = (frame(HEADERS, END_HEADERS | END_STREAM, stream, again) for stream in itertools.count(3, 2))
        for _ in range(2000):
            if not peer.push(next(heads), 30):
                break
        peer.until(lambda: bool(peer.goaways) or (5 in peer.answers and peer.answers[5].done))
        assert all(answer.grpc_status != 0 for stream, answer in peer.answers.items() if stream > 1)
        assert bystander()
    assert served(attacked.address)


def test_the_table_is_filled_and_emptied(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    sizes = integer(0, 5, 0x20) + integer(4096, 5, 0x20)
    with bounded(attacked), Peer(attacked.address) as peer:
        for number in range(300):
            kept = b"".join(b"\x40" + text(b"x%d" % each) + text(b"%d" % (number * each) * 3) for each in range(40))
            fields = sizes + kept + head(LIVE)
            stream = 2 * number + 1
            peer.send(frame(HEADERS, END_HEADERS, stream, fields), frame(DATA, END_STREAM, stream, message()))
        peer.until(lambda: 599 in peer.answers and peer.answers[599].done)
        assert bystander()


def large_echo(values: int) -> bytes:
    """Return an inference whose answer is as large as its message, packed: it costs its client next to nothing."""
    request = service_pb2.ModelInferRequest(model_name="echo", raw_input_contents=[np.zeros(values).tobytes()])
    request.inputs.add(name="in_fp64", datatype="FP64", shape=[values // 3, 3])
    return message(gzip.compress(request.SerializeToString()), 1)


def begin_echo(stream: int) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, head(INFER, (b"grpc-encoding", b"gzip")))


def test_answers_that_nobody_takes(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    """CVE-2019-9517: windows of zero, and 480 MB of answers for them; 256 MB are the bound on bodies."""
    frames = frame(DATA, END_STREAM, 0, large_echo(3 * 42_000))
    with bounded(attacked, 400 * MB) as check, contextlib.ExitStack() as crowd:
        for _ in range(6):
            peer = crowd.enter_context(Peer(attacked.address, greeting=PREFACE + settings((INITIAL_WINDOW, 0))))
            for stream in range(1, 160, 2):
                peer.send(begin_echo(stream), frames[:5] + struct.pack(">I", stream) + frames[9:])
            assert peer.alive()
            assert bystander()
        check()
    with bounded(attacked):
        assert served(attacked.address)


def test_answers_that_are_taken_byte_by_byte(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    """CVE-2019-9511: a megabyte under a window that is widened by one, again and again."""
    with bounded(attacked), Peer(attacked.address, greeting=PREFACE + settings((INITIAL_WINDOW, 1))) as peer:
        peer.send(begin_echo(1))
        peer.upload(1, large_echo(3 * 42_000))
        ended = flood(peer, itertools.repeat(window(1, 1)), 60_000, 1000)
        assert ended, "60 000 frames of one byte each"
        assert bystander()


def test_a_client_that_asks_and_does_not_read(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    """Windows are wide and the socket is full: what is asked meanwhile has to wait, too."""
    frames = frame(DATA, END_STREAM, 0, large_echo(3 * 42_000))
    with bounded(attacked, 120 * MB), contextlib.ExitStack() as crowd:
        for _ in range(3):
            peer = crowd.enter_context(Peer(attacked.address, receive_bytes=4096))
            for stream in range(1, 121, 2):
                if not peer.push(begin_echo(stream) + frames[:5] + struct.pack(">I", stream) + frames[9:]):
                    break
        assert bystander()


def test_pings_whose_answers_are_not_read(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    with bounded(attacked), Peer(attacked.address, receive_bytes=4096) as peer:
        for _ in range(1000):
            if not peer.push(ping() * 1000, 1):
                break
        assert bystander()


def test_bodies_that_are_never_finished(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    """Five clients announce messages of 60 MB and send nearly all of each; together they may hold 256 MB."""
    piece, begun = bytes(FRAME_BYTES), b"\0" + struct.pack(">I", 60 * MB)
    with bounded(attacked, 450 * MB) as check, contextlib.ExitStack() as crowd:
        for _ in range(5):
            peer = crowd.enter_context(Peer(attacked.address))
            peer.send(begin(1, INFER))
            peer.upload(1, begun + piece * (59 * MB // FRAME_BYTES), end=False)
        assert bystander()
        check()
    with bounded(attacked):
        assert served(attacked.address)


def test_bombs_that_are_packed(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    bomb = gzip.compress(bytes(40 * MB))
    with bounded(attacked), Peer(attacked.address) as peer:
        for stream in range(1, 12, 2):
            peer.send(frame(HEADERS, END_HEADERS, stream, head(INFER, (b"grpc-encoding", b"gzip"))))
            peer.upload(stream, message(bomb, 1))
            assert peer.answer(stream).grpc_status == 8
        assert bystander()


def test_slow_writers(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    """Slowloris: greetings, heads and messages that never become whole."""
    unfinished = [
        b"",
        PREFACE[:10],
        PREFACE,
        PREFACE + settings()[:5],
        PREFACE + settings() + frame(HEADERS, 0, 1, head(INFER)),
        PREFACE + settings() + begin(1, INFER),
        PREFACE + settings() + begin(1, INFER) + frame(DATA, 0, 1, message(bytes(100))[:50]),
        PREFACE + settings() + begin(1)[:-3],
        b"\x16\x03\x01",
    ]
    with bounded(attacked), contextlib.ExitStack() as crowd:
        for number in range(200):
            each = crowd.enter_context(connect(attacked.address))
            with contextlib.suppress(OSError):  # what cannot become HTTP/2 ends at once
                for byte in unfinished[number % len(unfinished)]:
                    each.send(bytes([byte]))
        assert bystander()
        assert served(attacked.address)


def test_a_thousand_connections(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    """Those for whom there is no room wait in the kernel's queue; when the crowd leaves, everybody is served."""
    host, _, port = attacked.address.rpartition(":")
    with bounded(attacked), contextlib.ExitStack() as crowd:
        for _ in range(1000):
            each = crowd.enter_context(socket.socket())
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.connect((host, int(port)))
            with contextlib.suppress(OSError):
                each.send(PREFACE + settings() + begin(1))
        assert bystander()
        assert isinstance(attacked.child.ping(), Done)
        descriptors = len(list(Path(f"/proc/{attacked.child.process.pid}/fd").iterdir()))
        assert descriptors < 400, "connections are bounded"
    assert served(attacked.address)


def test_streams_that_say_nothing(attacked: GrpcRunning, bystander: Callable[[], bool]) -> None:
    """A hundred streams on each of fifty connections, open for as long as the client likes."""
    with bounded(attacked), contextlib.ExitStack() as crowd:
        for _ in range(50):
            peer = crowd.enter_context(Peer(attacked.address))
            peer.send(*(begin(stream) for stream in range(1, 201, 2)))
            assert peer.alive()
        assert bystander()
        assert served(attacked.address)
    assert served(attacked.address)


def test_an_honest_client_is_no_flood(attacked: GrpcRunning) -> None:
    """Thousands of calls on one connection with a ping, a window update and settings now and then, some cancelled."""
    with Peer(attacked.address) as peer:
        for number in range(3000):
            stream = 4 * number + 1
            peer.send(call(stream, LIVE), window(0, 1) if number % 2 else b"", settings() if number % 100 == 0 else b"")
            assert peer.answer(stream).grpc_status == 0
            if number % 10 == 9:
                peer.send(begin(stream + 2), reset(stream + 2))
        assert peer.alive()
        assert not [code for _, code in peer.goaways if code != NO_ERROR]
