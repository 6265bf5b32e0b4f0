"""Any bytes, however they are cut: the same events, no exception, bounded memory."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.http2 import frames as f
from edgewright.runtime.server.http2.limits import Http2Limits
from tests.runtime.server.http2.client import GREETING, REQUEST, Call, Server, data, echo, nothing, opening, request

LIMITS = Http2Limits(head_bytes=2048, streams=5, stream_window_bytes=65_535, connection_window_bytes=100_000)
IDS = st.sampled_from([0, 1, 1, 3, 3, 5, 7, 9, 2, 2**31 - 1])
BODIES = st.sampled_from([b"", b"a", b"hello" * 20, bytes(3000), bytes(16_384)])
KNOWN = st.one_of(
    st.builds(request, IDS, BODIES | st.none()),
    st.builds(opening, IDS),
    st.builds(opening, IDS, st.just((*REQUEST, (b"content-length", b"5")))),
    st.builds(lambda stream_id, body, ends: data(stream_id, body, ends=ends), IDS, BODIES, st.booleans()),
    st.builds(f.window_update_frame, IDS, st.sampled_from([0, 1, 100, 70_000, 2**31 - 1])),
    st.builds(f.reset_frame, IDS, st.just(8)),
    st.builds(f.settings_frame, st.dictionaries(st.integers(0, 8), st.sampled_from([0, 1, 16_384, 2**31 - 1]))),
    st.just(f.frame(f.SETTINGS, f.ACK, 0)),
    st.builds(f.frame, st.just(f.PING), st.integers(0, 1), st.just(0), st.just(b"draining")),
    st.builds(f.frame, st.just(f.HEADERS), st.integers(0, 255), IDS, st.sampled_from([b"\x83\x86\x84", b"\xbe", b""])),
    st.builds(f.frame, st.just(f.CONTINUATION), st.integers(0, 255), IDS, st.sampled_from([b"\x83\x86\x84", b""])),
    st.builds(f.goaway_frame, IDS, st.just(0), st.just("bye")),
    st.builds(f.frame, st.integers(0, 12), st.integers(0, 255), IDS, st.binary(max_size=40)),
)


def mixed(call: Call) -> None:
    """Answer some at once, some in parts, some never."""
    if call.stream.id % 8 == 1:
        call.stream.begin(((b":status", b"200"),))
        call.stream.send([bytes(call.body), b"more"])
        call.stream.end(((b"grpc-status", b"0"),))
    elif call.stream.id % 8 != 5:
        echo(call)


def heard(pieces: list[bytes]) -> tuple[object, ...]:
    server = Server(mixed, LIMITS, greeted=False)
    for piece in pieces:
        server.core.feed(piece)
    return [call.heard for call in server.calls], bytes(server.raw), server.core.failed, server.core.ended


@given(st.lists(KNOWN, min_size=1, max_size=12), st.lists(st.integers(0, 5000), max_size=30), st.booleans())
def test_any_cutting_gives_the_same_events_and_the_same_answers(
    frames: list[bytes], places: list[int], greets: bool
) -> None:
    whole = (GREETING if greets else b"") + b"".join(frames)
    cuts = sorted({0, len(whole), *(place % (len(whole) + 1) for place in places)})
    assert heard([whole]) == heard([whole[a:b] for a, b in pairwise(cuts)])


@given(st.lists(KNOWN, max_size=4))
def test_byte_by_byte_too(frames: list[bytes]) -> None:
    whole = GREETING + b"".join(frame[:600] for frame in frames)
    assert heard([whole]) == heard([whole[at : at + 1] for at in range(len(whole))])


EDITS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=10)


@given(st.lists(KNOWN, max_size=12), EDITS, st.booleans())
def test_broken_bytes_raise_nothing_and_leave_nothing(
    frames: list[bytes], edits: list[tuple[int, int]], answers: bool
) -> None:
    whole = bytearray(b"".join(frames))
    for place, value in edits:
        if whole:
            whole[place % len(whole)] = value
    server = Server(mixed if answers else nothing, LIMITS)
    server.core.feed(bytes(whole))
    for now_s in range(3):
        server.core.sweep(100.0 + now_s)
    assert server.core.streams <= LIMITS.streams
    assert len(server.core._reading._rest) <= LIMITS.frame_bytes + 9
    assert len(server.core._incoming._blocks._block) <= LIMITS.head_bytes
    assert len(server.core._streams._resets) <= 256
    server.core.lost()
    assert server.core.streams == 0
    assert not server.core._sending.out


@given(st.binary(max_size=2000))
def test_any_header_block(block: bytes) -> None:
    server = Server(echo)
    server.core.feed(f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, block))
    server.core.feed(request(3, b"x"))
    assert server.core.ended or server.calls[-1].stream.id == 3


@given(st.integers(0, 2**24 - 1), st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_any_frame_head(length: int, kind: int, flags: int, stream_id: int) -> None:
    server = Server(echo)
    server.core.feed(struct.pack(">HBBBL", length >> 8, length & 255, kind, flags, stream_id))
    server.core.feed(bytes(min(length, 20_000)))
    assert length <= 16_384 or server.core.ended
