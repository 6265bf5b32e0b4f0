"""Which header fields a request may have (RFC 9113, sections 8.2 and 8.3)."""

from __future__ import annotations

import re

from .faults import Code, StreamFault
from .stream import Fields

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
"""A token of RFC 9110 in lower case."""
_BAD_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_THE_CONNECTION = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"},
)


def check_request(fields: Fields) -> int | None:
    """Hold the head of a request against the rules; return its content-length, if it has one.

    Raises:
        StreamFault: the request is malformed. CONNECT, which has no path, is that too: nothing here is a proxy.
    """
    pseudo: dict[bytes, bytes] = {}
    first_plain = len(fields)
    for index, (name, value) in enumerate(fields):
        if not name.startswith(b":"):
            first_plain = index
            break
        if name in pseudo or name not in _PSEUDO or _BAD_VALUE.search(value):
            raise _malformed("pseudo-header field that is unknown, twice there, or has a bad value")
        pseudo[name] = value
    if not (pseudo.get(b":method") and pseudo.get(b":scheme") and pseudo.get(b":path")):
        raise _malformed("request without :method, :scheme or :path")
    plain = fields[first_plain:]
    length = _check_plain(plain)
    authority = pseudo.get(b":authority")
    if authority is not None and any(name == b"host" and value != authority for name, value in plain):
        raise _malformed("host and :authority differ")
    return length


def check_trailers(fields: Fields) -> None:
    """Hold trailers against the rules.

    Raises:
        StreamFault: they are malformed.
    """
    _check_plain(fields)


def _check_plain(fields: Fields) -> int | None:
    length: bytes | None = None
    for name, value in fields:
        if not _NAME.fullmatch(name):
            raise _malformed("field name with a forbidden character, or pseudo-header field at the wrong place")
        if _BAD_VALUE.search(value):
            raise _malformed("field value with a forbidden character")
        if name in _OF_THE_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise _malformed("field that HTTP/2 does not have")
        if name == b"content-length":
            if length not in {None, value} or not _LENGTH.fullmatch(value):
                raise _malformed("bad content-length")
            length = value
    return None if length is None else int(length)


def _malformed(why: str) -> StreamFault:
    return StreamFault(Code.PROTOCOL_ERROR, why)
