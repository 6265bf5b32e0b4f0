"""What the head of a request says about its body: checked before a byte of the body is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..limits import Limits
from ..refusal import Refusal
from .messages import HEADER_LENGTH_FIELD

TENSOR_ALIGNMENT = 16

_CODINGS = frozenset({b"identity", b"gzip", b"deflate"})
"""Others are refused before a byte of the body comes; `compression` expands these."""


@dataclass(frozen=True, slots=True)
class BodyPlan:
    """How the body of one request arrives."""

    length: int | None
    """None for a chunked body."""
    padding: int
    """Bytes to leave free before the body so that the first binary tensor in it is aligned."""
    wants_continue: bool


def plan_body(headers: dict[bytes, bytes], http_version: str, limits: Limits) -> BodyPlan:
    """Return how the body arrives.

    Raises:
        Refusal: the request cannot be taken, whatever its body is.
    """
    if http_version not in {"1.1", "1.0"}:
        raise Refusal(505, f"HTTP/{http_version} is not served here; use HTTP/1.1")
    encoding = headers.get(b"transfer-encoding")
    if encoding is not None and encoding.lower() != b"chunked":
        raise Refusal(501, "the only transfer encoding served here is 'chunked'")
    coding = headers.get(b"content-encoding", b"identity").lower()
    if coding not in _CODINGS:
        raise Refusal(
            415,
            "bodies are taken as they are, or with Content-Encoding gzip or deflate",
            headers=((b"accept-encoding", b"gzip, deflate"),),
        )
    expectation = headers.get(b"expect", b"").lower()
    if expectation not in {b"", b"100-continue"}:
        raise Refusal(417, "the only expectation served here is '100-continue'")
    length = None if encoding is not None else _content_length(headers, limits)
    return BodyPlan(length, body_padding(headers), expectation != b"" and http_version == "1.1" and length != 0)


def _content_length(headers: dict[bytes, bytes], limits: Limits) -> int:
    text = headers.get(b"content-length", b"0")
    if not text.isdigit():  # the parser has refused it already; this is the second lock on the same door
        raise Refusal(400, "Content-Length is not a number")
    length = int(text)
    if length > limits.body_bytes:
        raise Refusal(413, f"the body of {length} bytes is larger than the limit of {limits.body_bytes} bytes")
    return length


def body_padding(headers: Mapping[bytes, bytes]) -> int:
    """Return the bytes to leave free before a body so that the first binary tensor in it is aligned."""
    text = headers.get(HEADER_LENGTH_FIELD, b"")
    return -int(text) % TENSOR_ALIGNMENT if text.isdigit() and len(text) < 16 else 0
