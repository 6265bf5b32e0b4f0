"""As much of HTTP/1.1 as a client of an inference server needs. Pure: bytes in, bytes out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import BadAnswer

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024 * 1024
"""An answer that claims more is not waited for."""

END_OF_HEAD = b"\r\n\r\n"
Payload = bytes | bytearray | memoryview
Fields = Sequence[tuple[str, str]]

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [^\r\n]*)?\Z")


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """Status and header fields of an answer; names are in lower case."""

    status: int
    headers: Mapping[str, str]
    keep_alive: bool

    @property
    def interim(self) -> bool:
        """True for 100 Continue and the like: another head follows."""
        return self.status < 200

    @property
    def chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    def length(self) -> int | None:
        """Return the bytes of the body; None where they end with the connection.

        Raises:
            BadAnswer: the field is no number, or too large to wait for.
        """
        text = self.headers.get("content-length")
        if self.status in {204, 304}:
            return 0
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 15 or int(text) > MAX_BODY_BYTES:
            raise BadAnswer(f"the answer's Content-Length is {text[:40]!r}; expected 0 to {MAX_BODY_BYTES}")
        return int(text)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request, before it is spelled."""

    method: str
    target: str
    host: str
    fields: Fields
    body: tuple[Payload, ...]
    descriptor: int | None = None
    """A sealed memfd that holds all of the body but its first part; it stays its owner's."""

    @property
    def length(self) -> int:
        return sum(len(part) for part in self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: memoryview
    tensors: memoryview | None = None
    """What would be behind the JSON of the body, where it is in shared memory instead."""


def request_head(request: Outgoing) -> bytes:
    """Return request line and header fields.

    Raises:
        ValueError: a name or value would break the head apart.
    """
    lines = [f"{request.method} {request.target} HTTP/1.1", f"host: {request.host}"]
    if request.body or request.method == "POST":
        lines.append(f"content-length: {request.length}")
    lines += [f"{name}: {value}" for name, value in request.fields]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header field of a request holds a line break")
    return "\r\n".join(lines).encode("latin-1") + END_OF_HEAD


def parse_head(head: bytes) -> AnswerHead:
    """Return what the head of an answer says; `head` ends before the empty line.

    Raises:
        BadAnswer: it is not HTTP/1.
    """
    first, *lines = head.split(b"\r\n")
    match = _STATUS_LINE.match(first)
    if match is None:
        raise BadAnswer(
            f"the answer begins with {first[:60]!r}, which is not HTTP/1.1; does this port speak TLS or gRPC?"
        )
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadAnswer(f"the answer has a header line without a colon: {line[:60]!r}")
        headers[name.lower()] = value.strip()
    wish = headers.get("connection", "").lower()
    keep_alive = "close" not in wish if match[1] == b"1" else "keep-alive" in wish
    return AnswerHead(int(match[2]), headers, keep_alive)


def chunk_size(line: bytes) -> int:
    """Return the size in the line before a chunk.

    Raises:
        BadAnswer: it is none.
    """
    digits = line.partition(b";")[0].strip()
    if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", digits):
        raise BadAnswer(f"the answer has a chunk of size {digits[:20]!r}")
    return int(digits, 16)


def body_buffer(head: AnswerHead, length: int) -> memoryview:
    """Return room for a body, placed so that what follows its JSON lies at a multiple of 16 bytes."""
    text = head.headers.get("inference-header-content-length", "")
    padding = -int(text) % 16 if text.isascii() and text.isdigit() and len(text) < 16 else 0
    return memoryview(bytearray(padding + length))[padding:]
