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
from .messages import Message

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_RAW_INPUT_TAG = 7 << 3 | _BYTES
_RAW_OUTPUT = 6
_MAX_TAG = 2**32 - 1
_ONE_BYTE = 0x7F
_LAST_SHIFT = 63
"""A varint has at most ten bytes."""


def split_request(message: Message, limits: Limits) -> tuple[bytes, list[memoryview]]:
    """Return a `ModelInferRequest` without its `raw_input_contents`, and these, as views of the message.

    Raises:
        Refusal: the message is not one, or its parts are more or larger than the limits allow.
    """
    try:
        spans, raw = _spans(message, limits)
    except IndexError:
        raise _malformed() from None
    view = memoryview(message)
    return _bounded_head([view[start:end] for start, end in spans], limits), [view[start:end] for start, end in raw]


_Spans = list[tuple[int, int]]


def _spans(message: Message, limits: Limits) -> tuple[_Spans, _Spans]:
    """Return where that what is kept lies, and where the raw tensors do. Nearly all tags and lengths are one byte."""
    kept: _Spans = []
    raw: _Spans = []
    position = kept_from = fields = 0
    end = len(message)
    while position < end:
        start = position
        tag = message[position]
        position += 1
        if tag > _ONE_BYTE:
            tag, position = _varint(message, start)
        if tag & 7 == _BYTES:
            length = message[position]
            position += 1
            if length > _ONE_BYTE:
                length, position = _varint(message, position - 1)
            position += length
            if tag == _RAW_INPUT_TAG:
                raw.append((position - length, position))
                kept.append((kept_from, start))
                kept_from = position
        else:
            position = _skip(message, position, tag & 7)
        fields += 1
        _check_field(tag, position, end, fields, limits)
    kept.append((kept_from, end))
    return kept, raw


def _check_field(tag: int, position: int, end: int, fields: int, limits: Limits) -> None:
    if position > end or not 8 <= tag <= _MAX_TAG:
        raise _malformed()
    if fields > 8 * limits.tensors:
        raise Refusal(400, f"more than {limits.tensors} inputs, outputs or parameters")


def _bounded_head(kept: list[memoryview], limits: Limits) -> bytes:
    size = sum(map(len, kept))
    if size > limits.json_bytes:
        raise Refusal(
            413,
            f"{size} bytes of a message beside its raw tensors; the limit is {limits.json_bytes}. "
            "Send large tensors as raw_input_contents",
        )
    return b"".join(kept)


def _skip(message: Message, position: int, kind: int) -> int:
    """Return where the value of a field ends that is not length-delimited."""
    if kind == _VARINT:
        return _varint(message, position)[1]
    if kind == _FIXED64:
        return position + 8
    if kind == _FIXED32:
        return position + 4
    raise _malformed()  # groups, which no version of this protocol had


def _varint(message: Message, position: int) -> tuple[int, int]:
    """Return the number that begins at `position`, and where it ends; raises `IndexError` where it does not."""
    value = shift = 0
    while (byte := message[position]) > _ONE_BYTE:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if shift > _LAST_SHIFT:
            raise _malformed()
    return value | byte << shift, position + 1


def _malformed() -> Refusal:
    return Refusal(400, "the request is not a ModelInferRequest message")


def fields_of(number: int, payloads: Iterable[Payload]) -> list[Payload]:
    """Return what adds length-delimited fields of this number to a message when it is put behind it."""
    parts: list[Payload] = []
    for payload in payloads:
        parts += (_as_varint(number << 3 | _BYTES), _as_varint(len(payload)), payload)
    return parts


def _as_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
