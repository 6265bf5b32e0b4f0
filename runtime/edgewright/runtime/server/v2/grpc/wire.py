"""The outermost layer of an inference message, read and written by hand.

Raw tensors are nearly all of a message. Left where they are, they cost no copy on the way in and one on the way out,
where protobuf would make two and three. And what protobuf gets to read can be bounded before it takes memory: an empty
message of two bytes becomes a hundred bytes there, a number of one byte eight.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...http.messages import Payload
from ...limits import Limits
from ...refusal import Refusal

_RAW_INPUT = 7
_RAW_OUTPUT_TAG = b"\x32"
"""`raw_output_contents = 6`, length-delimited."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MAX_FIELD = 2**29 - 1


def split_request(message: bytes, limits: Limits) -> tuple[bytes, list[memoryview]]:
    """Return a `ModelInferRequest` without its `raw_input_contents`, and these, as views of the message.

    Raises:
        Refusal: the message is not one, or its parts are more or larger than the limits allow.
    """
    raw: list[memoryview] = []
    kept: list[memoryview] = []
    view = memoryview(message)
    position = kept_from = 0
    fields_left = 8 * limits.tensors
    end = len(message)
    while position < end:
        start = position
        tag, position = _varint(message, position)
        position, length = _skip(message, position, tag & 7)
        fields_left -= 1
        if fields_left < 0:
            raise Refusal(400, f"more than {limits.tensors} inputs, outputs or parameters")
        if tag == _RAW_INPUT << 3 | _BYTES:
            raw.append(view[position - length : position])
            kept.append(view[kept_from:start])
            kept_from = position
        elif not 1 <= tag >> 3 <= _MAX_FIELD:
            raise _malformed()
    kept.append(view[kept_from:])
    return _bounded_head(kept, limits), raw


def _bounded_head(kept: list[memoryview], limits: Limits) -> bytes:
    size = sum(map(len, kept))
    if size > limits.json_bytes:
        raise Refusal(
            413,
            f"{size} bytes of a message beside its raw tensors; the limit is {limits.json_bytes}. "
            "Send large tensors as raw_input_contents",
        )
    return b"".join(kept)


def _skip(message: bytes, position: int, kind: int) -> tuple[int, int]:
    """Return where a field's value ends, and how many bytes its content has if it is length-delimited."""
    length = 0
    if kind == _BYTES:
        length, position = _varint(message, position)
        position += length
    elif kind == _VARINT:
        _, position = _varint(message, position)
    elif kind == _FIXED64:
        position += 8
    elif kind == _FIXED32:
        position += 4
    else:  # groups, which no version of this protocol had
        raise _malformed()
    if position > len(message):
        raise _malformed()
    return position, length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    try:
        while (byte := message[position]) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            position += 1
            if shift > 63:
                raise _malformed()
    except IndexError:
        raise _malformed() from None
    return value | byte << shift, position + 1


def _malformed() -> Refusal:
    return Refusal(400, "the request is not a ModelInferRequest message")


def join_response(head: bytes, raw: Iterable[Payload]) -> bytes:
    """Return a `ModelInferResponse` that has `raw_output_contents` beside what `head` says."""
    parts: list[Payload] = [head]
    for payload in raw:
        parts += (_RAW_OUTPUT_TAG, _as_varint(len(payload)), payload)
    return b"".join(parts)


def wrapped(number: int, message: bytes) -> bytes:
    """Return a message that has another one as its field of this number."""
    return b"".join((_as_varint(number << 3 | _BYTES), _as_varint(len(message)), message))


def _as_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
