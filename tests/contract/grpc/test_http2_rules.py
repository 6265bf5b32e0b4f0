"""RFC 9113 and RFC 7541, rule by rule, each under the number of its section: asked of a running server by raw frames.

The rules are those that h2spec looks at (its numbers are of RFC 7540), as RFC 9113 has them now, and some of its own.
"""

from __future__ import annotations

import pytest
from hpack import Encoder
from tritonclient.grpc import service_pb2

from tests.contract.grpc.peer import Peer, served
from tests.contract.grpc.raw_http2 import (
    ACK,
    CANCEL,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    HEADERS,
    INITIAL_WINDOW,
    LIVE,
    MAX_FRAME,
    MAX_STREAMS,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    STREAM,
    TABLE_SIZE,
    WATCH,
    WIDEST,
    call,
    frame,
    head,
    literal,
    message,
    ping,
    request_fields,
    reset,
    settings,
    text,
    window,
)
from tests.contract.grpc.rules import Rule, flow_control_error, opened, protocol_error, stream_error
from tests.contract.grpc.rules_of_frames import FRAMES, FRAMING, STATES
from tests.contract.grpc.rules_of_requests import COMPRESSION, EXCHANGES

RULES = FRAMING + STATES + FRAMES + EXCHANGES + COMPRESSION


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule(grpc_address: str, rule: Rule) -> None:
    with Peer(grpc_address) as peer:
        rule.says(peer)
        rule.expects(peer)


def test_the_server_lives_after_all_of_them(grpc_address: str) -> None:
    for rule in RULES:
        with Peer(grpc_address) as peer:
            rule.says(peer)
    assert served(grpc_address)


def test_3_4_the_servers_preface_is_its_first_frame(grpc_address: str) -> None:
    with Peer(grpc_address) as peer:
        assert peer.alive()
        assert peer.kinds[0] == SETTINGS
        assert peer.settings.get(ENABLE_PUSH, 0) == 0
        assert peer.settings[MAX_STREAMS] >= 100, "RFC 9113, 6.5.2 recommends no less"
        assert FRAME_BYTES <= peer.settings.get(MAX_FRAME, FRAME_BYTES) < 2**24


@pytest.mark.parametrize(
    "greeting",
    [
        b"INVALID CONNECTION PREFACE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        PREFACE[:-1] + b"x",
    ],
)
def test_3_4_a_preface_that_is_none_ends_the_connection(grpc_address: str, greeting: bytes) -> None:
    with Peer(grpc_address, greeting=greeting) as peer:
        assert not peer.until(lambda: False)
        assert peer.answers == {}


@pytest.mark.parametrize("first", [ping(), call(1, LIVE), settings()[:-1] + b"\x01", window(0, 1)])
def test_3_4_the_first_frame_of_a_client_is_settings(grpc_address: str, first: bytes) -> None:
    with Peer(grpc_address, greeting=PREFACE + first) as peer:
        protocol_error(peer)


def test_3_4_a_preface_in_pieces(grpc_address: str) -> None:
    with Peer(grpc_address, greeting=b"") as peer:
        for byte in PREFACE + settings() + call(1, LIVE):
            peer.send(bytes([byte]))
        assert peer.answer(1).grpc_status == 0


def test_5_1_2_more_streams_than_were_allowed(grpc_address: str) -> None:
    with Peer(grpc_address) as peer:
        assert peer.alive()
        allowed = peer.settings[MAX_STREAMS]
        last = 2 * allowed + 1
        peer.send(*(opened(STREAM, stream) for stream in range(1, last + 1, 2)))
        stream_error(REFUSED_STREAM, PROTOCOL_ERROR, stream=last)(peer)
        peer.send(reset(1), call(last + 2, LIVE))
        assert peer.answer(last + 2).grpc_status == 0, "one has ended, and the next finds its place"


def test_6_5_3_each_settings_is_acknowledged(grpc_address: str) -> None:
    with Peer(grpc_address) as peer:
        peer.send(settings((TABLE_SIZE, 0)), settings((MAX_STREAMS, 0), (INITIAL_WINDOW, WIDEST)), settings())
        assert peer.until(lambda: peer.acknowledged == 4)
        assert peer.alive()
        assert peer.acknowledged == 4
        peer.send(call(1, LIVE))
        assert peer.answer(1).grpc_status == 0, (
            "a limit on streams that the server opens, and a table that it may not use"
        )


def test_6_5_3_the_last_of_several_values_counts(grpc_address: str) -> None:
    with Peer(grpc_address, greeting=PREFACE + settings((INITIAL_WINDOW, 100), (INITIAL_WINDOW, 1))) as peer:
        peer.send(call(1, LIVE))
        assert peer.until(lambda: 1 in peer.answers and bool(peer.answers[1].sizes))
        assert peer.alive()
        assert peer.answers[1].sizes == [1]


def test_6_7_a_ping_comes_back_and_a_pong_does_not(grpc_address: str) -> None:
    with Peer(grpc_address) as peer:
        peer.send(frame(PING, ACK, 0, b"unwanted"), ping(b"12345678"))
        assert peer.until(lambda: bool(peer.pongs))
        assert peer.pongs == [b"12345678"]


def test_6_9_1_no_more_than_the_window_is_sent(grpc_address: str) -> None:
    with Peer(grpc_address, greeting=PREFACE + settings((INITIAL_WINDOW, 1))) as peer:
        peer.send(call(1, LIVE))
        assert peer.until(lambda: 1 in peer.answers and bool(peer.answers[1].sizes))
        assert peer.alive()
        assert peer.answers[1].body == b"\0"
        for _ in range(6):
            peer.send(window(1, 1))
        answer = peer.answer(1)
        assert (answer.grpc_status, max(answer.sizes), answer.messages) == (0, 1, [b"\x08\x01"])


def test_6_9_1_the_window_of_the_connection_counts_for_all(grpc_address: str) -> None:
    """9 362 answers of 7 bytes fit into the 65 535 that nobody has widened; one byte of the next one does."""
    answers = 200
    with Peer(grpc_address, greeting=PREFACE + settings()) as peer:
        for stream in range(1, 2 * answers, 2):
            peer.send(call(stream, LIVE))
            assert peer.answer(stream).grpc_status == 0
        assert sum(sum(answer.sizes) for answer in peer.answers.values()) == 7 * answers < DEFAULT_WINDOW


def test_6_9_2_a_window_of_nothing_is_widened_later(grpc_address: str) -> None:
    with Peer(grpc_address, greeting=PREFACE + settings((INITIAL_WINDOW, 0))) as peer:
        peer.send(call(1, LIVE))
        assert peer.until(lambda: 1 in peer.answers)
        assert peer.alive()
        assert not peer.answers[1].ended
        peer.send(settings((INITIAL_WINDOW, 1)))
        assert peer.until(lambda: bool(peer.answers[1].body))
        peer.send(settings((INITIAL_WINDOW, WIDEST)))
        assert peer.answer(1).grpc_status == 0


def test_6_9_2_a_window_may_become_negative(grpc_address: str) -> None:
    with Peer(grpc_address, greeting=PREFACE + settings((INITIAL_WINDOW, 3))) as peer:
        peer.send(call(1, LIVE))
        assert peer.until(lambda: 1 in peer.answers and len(peer.answers[1].body) == 3)
        peer.send(settings((INITIAL_WINDOW, 2)), window(1, 1))
        assert peer.alive()
        assert len(peer.answers[1].body) == 3, "the window was -1, and is 0"
        peer.send(window(1, 2))
        assert peer.until(lambda: len(peer.answers[1].body) == 5)
        peer.send(window(1, 100))
        assert peer.answer(1).grpc_status == 0


def test_6_9_2_settings_that_burst_a_window(grpc_address: str) -> None:
    with Peer(grpc_address, greeting=PREFACE + settings((INITIAL_WINDOW, 1))) as peer:
        peer.send(call(1, WATCH))
        assert peer.until(lambda: 1 in peer.answers)
        peer.send(window(1, WIDEST - 10), settings((INITIAL_WINDOW, 1000)))
        flow_control_error(peer)


def test_6_9_more_data_than_the_window_of_a_stream(grpc_address: str) -> None:
    """Who reads no answers is not read any more himself; who goes on all the same breaks the rules."""
    request = service_pb2.ModelReadyRequest(name="x" * 3000).SerializeToString()
    piece = message(request) * 5
    with Peer(grpc_address, greeting=PREFACE + settings((INITIAL_WINDOW, 0))) as peer:
        assert peer.alive()
        peer.send(opened(STREAM))
        for _ in range(64 * 2**20 // len(piece)):
            if not peer.push(frame(DATA, 0, 1, piece), 30):
                break
        stream_error(FLOW_CONTROL_ERROR)(peer)


def test_6_9_data_on_streams_that_were_reset_is_given_back(grpc_address: str) -> None:
    """Otherwise the window of the connection is used up by what nobody wants, and every stream stands still."""
    with Peer(grpc_address) as peer:
        assert peer.alive()
        for stream in range(1, 401, 2):
            peer.send(opened(STREAM, stream))
            peer.upload(stream, message(bytes(4000)) + message(bytes(3000))[:1000], end=False)
            peer.send(reset(stream, CANCEL))
        assert peer.alive()
        peer.send(opened(LIVE, 401))
        peer.upload(401, message())
        assert peer.answer(401).grpc_status == 0
        assert peer.windows[0] > 0


def test_hpack_fields_by_the_table_and_by_huffman(grpc_address: str) -> None:
    """Every representation (section 6), and values out of the table that earlier heads have filled."""
    encoder = Encoder()
    with Peer(grpc_address) as peer:
        for number in range(30):
            stream = 2 * number + 1
            more = ((b"x-trace", b"%d" % (number % 7)), (b"x-once-%d" % number, b"y" * 300), (b"grpc-timeout", b"20S"))
            encoder.header_table_size = 4096 if number % 5 else 300
            fields = encoder.encode(request_fields(LIVE, *more), huffman=bool(number % 2))
            peer.send(frame(HEADERS, END_HEADERS, stream, fields), frame(DATA, END_STREAM, stream, message()))
            assert peer.answer(stream).grpc_status == 0


def test_hpack_a_literal_that_is_never_to_be_indexed(grpc_address: str) -> None:
    never = head(LIVE) + b"\x10" + text(b"authorization") + text(b"Bearer x") + literal(b"a", b"")
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, never), frame(DATA, END_STREAM, 1, message()))
        assert peer.answer(1).grpc_status == 0
