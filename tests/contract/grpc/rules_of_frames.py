"""RFC 9113, sections 4 to 7: frames, the states of a stream, and what each kind of frame may be."""

from __future__ import annotations

import struct

from tests.contract.grpc.peer import Peer
from tests.contract.grpc.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    LIVE,
    MAX_FRAME,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH,
    RESET,
    SETTINGS,
    STREAM,
    STREAM_CLOSED,
    WIDEST,
    WINDOW,
    WITH_PRIORITY,
    call,
    frame,
    head,
    message,
    reset,
    settings,
    window,
)
from tests.contract.grpc.rules import (
    LAST,
    Rule,
    alive,
    answered,
    begun,
    closed,
    closed_error,
    compression_error,
    flow_control_error,
    frame_size_error,
    harmless,
    has_a_status,
    opened,
    protocol_error,
    say,
    size_or_protocol_error,
    stream_error,
    watching,
)

SPLIT = head(LIVE)
HALF = len(SPLIT) // 2
UNFINISHED = frame(HEADERS, END_STREAM, 1, SPLIT[:HALF])
REST = frame(CONTINUATION, END_HEADERS, 1, SPLIT[HALF:])
PRIORITY_OF = struct.pack(">IB", 0, 15)


def answered_on_the_last(peer: Peer) -> None:
    assert peer.answer(WIDEST).grpc_status == 0


FRAMING = [
    Rule("4.1-unknown-type-is-ignored", say(frame(0x16, 0, 0, bytes(8)), call(1, LIVE)), answered),
    Rule("4.1-undefined-flags-are-ignored", say(frame(PING, 0x16, 0, bytes(8))), alive),
    Rule("4.1-reserved-bit-is-ignored", say(frame(PING, 0, 1 << 31, bytes(8))), alive),
    Rule(
        "4.2-data-of-2^14",
        say(
            opened(LIVE),
            frame(DATA, END_STREAM, 1, message(bytes(FRAME_BYTES - 5))),
        ),
        has_a_status,
    ),
    Rule(
        "4.2-data-too-large", say(opened(), frame(DATA, 0, 1, bytes(FRAME_BYTES + 1))), stream_error(FRAME_SIZE_ERROR)
    ),
    Rule(
        "4.2-headers-too-large",
        say(frame(HEADERS, END_HEADERS, 1, head(LIVE, *[(b"x", b"y" * 1000)] * 17))),
        frame_size_error,
    ),
    Rule(
        "4.2-length-without-its-bytes",
        say(frame(DATA, 0, 1, b"", length=2**24 - 1)),
        size_or_protocol_error,
    ),
    Rule("4.3-block-that-is-none", say(begun(b"\x40")), compression_error),
    Rule(
        "4.3-priority-inside-a-block",
        say(UNFINISHED, frame(PRIORITY, 0, 1, PRIORITY_OF), REST),
        protocol_error,
    ),
    Rule("4.3-other-stream-inside-a-block", say(UNFINISHED, opened(LIVE, 3)), protocol_error),
    Rule(
        "5.5-unknown-frame-inside-a-block",
        say(UNFINISHED, frame(0x16, 0, 0, bytes(8)), REST),
        protocol_error,
    ),
    Rule(
        "5.5-unknown-frame-on-a-stream",
        say(opened(LIVE), frame(0x16, 0xFF, 1, bytes(8)), LAST),
        answered,
    ),
]

STATES = [
    Rule("5.1-idle-data", say(frame(DATA, END_STREAM, 1, b"test")), protocol_error),
    Rule("5.1-idle-rst-stream", say(reset(1)), protocol_error),
    Rule("5.1-idle-window-update", say(window(1, 100)), protocol_error),
    Rule("5.1-idle-continuation", say(frame(CONTINUATION, END_HEADERS, 1, SPLIT)), protocol_error),
    Rule("5.1-half-closed-data", watching(frame(DATA, END_STREAM, 1, b"test")), stream_error(STREAM_CLOSED)),
    Rule("5.1-half-closed-headers", watching(opened(LIVE)), stream_error(STREAM_CLOSED, PROTOCOL_ERROR)),
    Rule("5.1-half-closed-continuation", watching(REST), closed_error),
    Rule("5.1-half-closed-window-update", watching(window(1, 1)), alive),
    Rule("5.1-half-closed-priority", watching(frame(PRIORITY, 0, 1, PRIORITY_OF)), alive),
    Rule("5.1-half-closed-rst-stream", watching(reset(1)), alive),
    Rule("5.1-data-behind-a-reset", say(opened(), reset(1), frame(DATA, 0, 1, b"test")), harmless),
    Rule("5.1-headers-behind-a-reset", say(opened(), reset(1), opened()), harmless),
    Rule(
        "5.1-continuation-behind-a-reset",
        say(opened(), reset(1), REST),
        closed_error,
    ),
    Rule("5.1-closed-data", closed(frame(DATA, END_STREAM, 1, b"test")), harmless),
    Rule("5.1-closed-headers", closed(opened(LIVE)), closed_error),
    Rule("5.1-closed-continuation", closed(REST), closed_error),
    Rule("5.1-closed-window-update", closed(window(1, 1)), alive),
    Rule("5.1-closed-rst-stream", closed(reset(1)), alive),
    Rule("5.1-closed-priority", closed(frame(PRIORITY, 0, 1, PRIORITY_OF)), alive),
    Rule("5.1.1-even-stream", say(opened(LIVE, 2)), protocol_error),
    Rule(
        "5.1.1-smaller-stream",
        say(opened(STREAM, 5), opened(STREAM, 3)),
        closed_error,
    ),
    Rule("5.1.1-last-stream-id", say(call(WIDEST, LIVE)), answered_on_the_last),
    Rule(
        "5.3.1-headers-on-itself",
        say(frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, struct.pack(">IB", 1, 255) + head(LIVE))),
        harmless,
    ),
    Rule("5.3.1-priority-on-itself", say(frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 255))), harmless),
    Rule("5.4.1-goaway-and-close", say(frame(PING, 0, 0, bytes(3))), frame_size_error),
]

FRAMES = [
    Rule("6.1-data-on-stream-0", say(frame(DATA, END_STREAM, 0, b"test")), protocol_error),
    Rule("6.1-pad-length", say(opened(), frame(DATA, PADDED, 1, b"\xfftest")), protocol_error),
    Rule(
        "6.1-pad-without-length",
        say(opened(), frame(DATA, PADDED, 1)),
        size_or_protocol_error,
    ),
    Rule(
        "6.1-padding", say(opened(LIVE), frame(DATA, PADDED | END_STREAM, 1, b"\x05" + message() + bytes(5))), answered
    ),
    Rule(
        "6.1-only-padding",
        say(opened(LIVE), frame(DATA, PADDED, 1, b"\x05" + bytes(5)), LAST),
        answered,
    ),
    Rule("6.2-headers-on-stream-0", say(opened(LIVE, 0)), protocol_error),
    Rule(
        "6.2-pad-length",
        say(frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + SPLIT[:50])),
        protocol_error,
    ),
    Rule(
        "6.2-padding",
        say(frame(HEADERS, END_HEADERS | PADDED, 1, b"\x03" + SPLIT + bytes(3)), LAST),
        answered,
    ),
    Rule(
        "6.2-priority-and-padding",
        say(
            frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 1, b"\x03" + PRIORITY_OF + SPLIT + bytes(3)),
            LAST,
        ),
        answered,
    ),
    Rule(
        "6.2-priority-without-its-bytes",
        say(frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"\0\0")),
        size_or_protocol_error,
    ),
    Rule("6.3-priority-on-stream-0", say(frame(PRIORITY, 0, 0, PRIORITY_OF)), protocol_error),
    Rule("6.3-priority-of-four-bytes", say(opened(), frame(PRIORITY, 0, 1, bytes(4))), stream_error(FRAME_SIZE_ERROR)),
    Rule("6.3-priority-on-idle", say(frame(PRIORITY, 0, 7, PRIORITY_OF), call(1, LIVE)), answered),
    Rule("6.4-rst-stream-on-stream-0", say(reset(0)), protocol_error),
    Rule("6.4-rst-stream-of-three-bytes", say(opened(), frame(RESET, 0, 1, bytes(3))), frame_size_error),
    Rule("6.5-ack-with-payload", say(frame(SETTINGS, ACK, 0, b"\0")), frame_size_error),
    Rule(
        "6.5-settings-on-a-stream",
        say(frame(SETTINGS, 0, 1, bytes([0, 3, 0, 0, 0, 100]))),
        protocol_error,
    ),
    Rule("6.5-settings-of-three-bytes", say(frame(SETTINGS, 0, 0, bytes(3))), frame_size_error),
    Rule("6.5.2-enable-push-2", say(settings((ENABLE_PUSH, 2))), protocol_error),
    Rule(
        "6.5.2-window-above-the-widest",
        say(settings((INITIAL_WINDOW, WIDEST + 1))),
        flow_control_error,
    ),
    Rule("6.5.2-frame-size-below-2^14", say(settings((MAX_FRAME, FRAME_BYTES - 1))), protocol_error),
    Rule("6.5.2-frame-size-above-2^24-1", say(settings((MAX_FRAME, 2**24))), protocol_error),
    Rule("6.5.2-unknown-setting", say(settings((0xFF, 1))), alive),
    Rule(
        "6.6-push-promise",
        say(opened(), frame(PUSH, END_HEADERS, 1, struct.pack(">I", 2) + SPLIT)),
        protocol_error,
    ),
    Rule("6.7-ping-on-a-stream", say(frame(PING, 0, 1, bytes(8))), protocol_error),
    Rule("6.7-ping-of-six-bytes", say(frame(PING, 0, 0, bytes(6))), frame_size_error),
    Rule("6.8-goaway-on-a-stream", say(frame(GOAWAY, 0, 1, bytes(8))), protocol_error),
    Rule("6.8-goaway-of-four-bytes", say(frame(GOAWAY, 0, 0, bytes(4))), frame_size_error),
    Rule("6.9-window-update-of-0", say(window(0, 0)), protocol_error),
    Rule("6.9-window-update-of-0-on-a-stream", say(opened(), window(1, 0)), stream_error(PROTOCOL_ERROR)),
    Rule("6.9-window-update-of-three-bytes", say(frame(WINDOW, 0, 0, bytes(3))), frame_size_error),
    Rule("6.9.1-connection-beyond-the-widest", say(window(0, WIDEST)), flow_control_error),
    Rule("6.9.1-stream-beyond-the-widest", watching(window(1, WIDEST)), stream_error(FLOW_CONTROL_ERROR)),
    Rule(
        "6.10-continuations",
        say(UNFINISHED, *[frame(CONTINUATION, 0, 1)] * 2, REST),
        has_a_status,
    ),
    Rule("6.10-data-inside-a-block", say(UNFINISHED, frame(DATA, 0, 1, b"x"), REST), protocol_error),
    Rule(
        "6.10-continuation-on-stream-0",
        say(UNFINISHED, frame(CONTINUATION, END_HEADERS, 0, SPLIT[HALF:])),
        protocol_error,
    ),
    Rule(
        "6.10-continuation-behind-end-headers",
        say(opened(), frame(CONTINUATION, END_HEADERS, 1, SPLIT)),
        protocol_error,
    ),
    Rule(
        "6.10-continuation-behind-the-last",
        say(UNFINISHED, REST, frame(CONTINUATION, END_HEADERS, 1)),
        closed_error,
    ),
    Rule(
        "6.10-continuation-behind-data",
        say(opened(), frame(DATA, 0, 1, b"\0"), frame(CONTINUATION, END_HEADERS, 1)),
        protocol_error,
    ),
    Rule("7-goaway-of-an-unknown-code", say(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0xFF))), harmless),
    Rule("7-reset-of-an-unknown-code", say(opened(), reset(1, 0xFF)), alive),
]
