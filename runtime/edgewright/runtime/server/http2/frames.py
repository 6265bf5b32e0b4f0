"""Frames as bytes (RFC 9113, sections 4 and 6): their heads, the payloads that have an inside, and those we send."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from .faults import Code, ConnectionFault

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

SMALLEST_FRAME_BYTES = 2**14
LARGEST_FRAME_BYTES = 2**24 - 1
DEFAULT_WINDOW_BYTES = 2**16 - 1
LARGEST_WINDOW_BYTES = 2**31 - 1
LARGEST_STREAM_ID = 2**31 - 1

DRAINING = b"draining"
"""What is in the PING between the two steps of draining."""

HEAD = struct.Struct(">HBBBL")
"""Length (16 bits and 8 bits more), type, flags, stream."""
_SETTING = struct.Struct(">HL")
_WORD = struct.Struct(">L")


def frame_head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return frame_head(len(payload), kind, flags, stream_id) + payload


def settings_frame(values: Mapping[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def window_update_frame(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, _WORD.pack(increment))


def reset_frame(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, _WORD.pack(code))


def goaway_frame(last_stream_id: int, code: int, why: str) -> bytes:
    return frame(GOAWAY, 0, 0, _WORD.pack(last_stream_id) + _WORD.pack(code) + why.encode("ascii", "replace"))


def header_frames(block: bytes, end_stream: bool, stream_id: int, frame_bytes: int) -> bytes:
    """Return HEADERS, with CONTINUATION behind it where the block is larger than a frame may be."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= frame_bytes:
        return frame_head(len(block), HEADERS, flags | END_HEADERS, stream_id) + block
    pieces = [block[start : start + frame_bytes] for start in range(0, len(block), frame_bytes)]
    frames = [frame(HEADERS, flags, stream_id, pieces[0])]
    frames += [frame(CONTINUATION, 0, stream_id, piece) for piece in pieces[1:-1]]
    return b"".join([*frames, frame(CONTINUATION, END_HEADERS, stream_id, pieces[-1])])


def unpadded(payload: bytes, flags: int) -> bytes:
    """Return the inside of DATA or HEADERS.

    Raises:
        ConnectionFault: there is more padding than payload (RFC 9113, section 6.1).
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def header_block_fragment(payload: bytes, flags: int) -> bytes:
    """Return what HEADERS has of the header block, without padding and without the (deprecated) priority.

    Raises:
        ConnectionFault: the frame is too short for what its flags say.
    """
    inside = unpadded(payload, flags)
    if not flags & WITH_PRIORITY:
        return inside
    if len(inside) < 5:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
    return inside[5:]


def parse_settings(payload: bytes) -> dict[int, int]:
    """Return the client's settings, the last value of each (RFC 9113, section 6.5.3, has them applied in order).

    Raises:
        ConnectionFault: a value that the RFC forbids.
    """
    if len(payload) % 6:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a length that is no multiple of 6")
    values: dict[int, int] = {}
    for name, value in _SETTING.iter_unpack(payload):
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW_BYTES:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE above 2^31-1")
        if name == MAX_FRAME_SIZE and not SMALLEST_FRAME_BYTES <= value <= LARGEST_FRAME_BYTES:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE outside of 2^14 to 2^24-1")
        if HEADER_TABLE_SIZE <= name <= MAX_HEADER_LIST_SIZE:
            values[name] = value
    return values


def parse_word(payload: bytes) -> int:
    """Return the 31 or 32 bits of WINDOW_UPDATE or RST_STREAM.

    Raises:
        ConnectionFault: the payload has not four bytes.
    """
    if len(payload) != 4:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame of 4 bytes has another length")
    word: int = _WORD.unpack(payload)[0]
    return word
