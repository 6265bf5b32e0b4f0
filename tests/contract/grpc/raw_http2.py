"""Frames of HTTP/2 as bytes, right or wrong (RFC 9113, section 4.1; header blocks by RFC 7541), and calls of gRPC.

It shares no code with the server.
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEADER_LIST = range(1, 7)

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

WIDEST = 2**31 - 1
DEFAULT_WINDOW = 65_535
FRAME_BYTES = 16_384

SERVICE = b"/inference.GRPCInferenceService/"
LIVE, INFER, STREAM = SERVICE + b"ServerLive", SERVICE + b"ModelInfer", SERVICE + b"ModelStreamInfer"
WATCH = b"/grpc.health.v1.Health/Watch"

Field = tuple[bytes, bytes]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """Pack a frame; `length` says something else than the truth."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind & 255, flags & 255]) + struct.pack(">I", stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW, 0, stream, struct.pack(">I", increment))


def reset(stream: int, code: int = CANCEL) -> bytes:
    return frame(RESET, 0, stream, struct.pack(">I", code))


def ping(payload: bytes = bytes(8)) -> bytes:
    return frame(PING, 0, 0, payload)


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """Pack an integer behind the other bits of its first byte (RFC 7541, section 5.1)."""
    most = 2**bits - 1
    if value < most:
        return bytes([first | value])
    found, value = [first | most], value - most
    while value >= 128:
        found.append(value % 128 + 128)
        value //= 128
    return bytes([*found, value])


def text(value: bytes) -> bytes:
    """Pack a string without Huffman's code (section 5.2)."""
    return integer(len(value), 7) + value


def literal(name: bytes, value: bytes) -> bytes:
    """Pack a field that stays out of the table (section 6.2.2)."""
    return b"\0" + text(name) + text(value)


def block(*fields: Field) -> bytes:
    return b"".join(literal(*each) for each in fields)


def request_fields(path: bytes, *more: Field, scheme: bytes = b"http") -> tuple[Field, ...]:
    """Return the head of a gRPC call."""
    pseudo = ((b":method", b"POST"), (b":scheme", scheme), (b":path", path), (b":authority", b"localhost"))
    return (*pseudo, (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more)


def head(path: bytes, *more: Field) -> bytes:
    """Return the header block of a gRPC call."""
    return block(*request_fields(path, *more))


def message(body: bytes = b"", flag: int = 0) -> bytes:
    """Put gRPC's prefix of five bytes before a message."""
    return struct.pack(">BI", flag, len(body)) + body


def call(stream: int, path: bytes, body: bytes | None = None, *more: Field) -> bytes:
    """Return the frames of a complete call of one message, the empty one unless there is a body (prefix included)."""
    begin = frame(HEADERS, END_HEADERS, stream, head(path, *more))
    return begin + frame(DATA, END_STREAM, stream, message() if body is None else body)
