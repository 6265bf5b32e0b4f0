"""Against an independent client, `h2`: what it accepts from us and what we make of what it sends."""

from __future__ import annotations

from collections.abc import Sequence

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.runtime.server.http2.limits import Http2Limits
from tests.runtime.server.http2.client import OK, REQUEST, Server, echo, nothing

HEADERS = [(name.decode(), value.decode()) for name, value in (*REQUEST, (b":authority", b"a"))]
HEADERS.sort(key=lambda field: not field[0].startswith(":"))


class Client:
    """`h2` on the other side of a server in memory; it gives back all window."""

    def __init__(self, server: Server, window_bytes: int = 65_535) -> None:
        self.server = server
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window_bytes}
        )
        self.h2.initiate_connection()
        self.bodies: dict[int, bytes] = {}
        self.heads: dict[int, list[tuple[bytes, bytes]]] = {}
        self.ended: list[int] = []
        self.events: list[h2.events.Event] = []

    def turn(self) -> bool:
        """Let both sides say what they have to; False where neither had anything."""
        sent = self.h2.data_to_send()
        if sent:
            self.server.core.feed(sent)
        answered = bytes(self.server.raw)
        self.server.raw.clear()
        for event in self.h2.receive_data(answered):
            self._take(event)
        return bool(sent or answered)

    def _take(self, event: h2.events.Event) -> None:
        self.events.append(event)
        if isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            self.heads.setdefault(event.stream_id, []).extend(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.append(event.stream_id)

    def settle(self) -> None:
        while self.turn():
            pass

    def send(self, stream_id: int, body: bytes) -> None:
        """Send a whole request, as the server's windows let it."""
        self.h2.send_headers(stream_id, HEADERS)
        while body:
            size = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size, len(body))
            if size > 0:
                self.h2.send_data(stream_id, body[:size])
                body = body[size:]
            else:
                assert self.turn(), "the server gives no window back"
        self.h2.end_stream(stream_id)


@pytest.mark.parametrize("window_bytes", [1000, 16_384, 65_535, 1 << 20])
@pytest.mark.parametrize("limits", [Http2Limits(), Http2Limits(stream_window_bytes=0, connection_window_bytes=0)])
def test_large_messages_both_ways_under_a_small_window(window_bytes: int, limits: Http2Limits) -> None:
    client = Client(Server(echo, limits, greeted=False), window_bytes)
    body = bytes(range(256)) * 8000
    client.send(1, body)
    client.settle()
    assert client.bodies[1] == body
    assert client.heads[1] == [*OK, (b"grpc-status", b"0")]
    assert client.ended == [1]
    assert client.server.core.failed is None


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=50).map(lambda part: part * 700), min_size=1, max_size=12), st.integers(0, 80_000))
def test_many_at_one_time(bodies: Sequence[bytes], window_bytes: int) -> None:
    client = Client(Server(echo, greeted=False), 500 + window_bytes)
    for index, body in enumerate(bodies):
        client.send(2 * index + 1, body)
    client.settle()
    assert [client.bodies.get(2 * index + 1, b"") for index in range(len(bodies))] == list(bodies)
    assert sorted(client.ended) == [2 * index + 1 for index in range(len(bodies))]
    assert client.server.core.idle
    assert client.server.core.failed is None


def test_resets_and_pings() -> None:
    client = Client(Server(nothing, greeted=False))
    client.send(1, b"a")
    client.send(3, b"b")
    client.h2.reset_stream(1)
    client.h2.ping(b"12345678")
    client.settle()
    calls = client.server.calls
    assert [call.is_gone for call in calls] == [True, False]
    echo(calls[1])
    client.settle()
    assert client.bodies == {3: b"b"}
    assert [e.ping_data for e in client.events if isinstance(e, h2.events.PingAckReceived)] == [b"12345678"]
    assert not [e for e in client.events if isinstance(e, h2.events.StreamReset)]


def test_the_end_is_said() -> None:
    client = Client(Server(nothing, greeted=False))
    client.settle()
    client.server.core.close(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
    client.settle()
    assert [e.error_code for e in client.events if isinstance(e, h2.events.ConnectionTerminated)] == [11]


def test_a_client_without_a_table_reads_us() -> None:
    client = Client(Server(echo, greeted=False))
    client.h2.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0})
    for stream_id in (1, 3):
        client.send(stream_id, b"x")
        client.settle()
    assert client.ended == [1, 3]


def test_an_early_answer_is_whole_for_the_client() -> None:
    server = Server(nothing, greeted=False)
    client = Client(server)
    client.h2.send_headers(1, HEADERS)
    client.settle()
    server.calls[0].stream.end((*OK, (b"grpc-status", b"12")))
    client.settle()
    assert client.heads[1] == [*OK, (b"grpc-status", b"12")]
    assert client.ended == [1]
