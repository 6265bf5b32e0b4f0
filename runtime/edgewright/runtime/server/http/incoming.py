"""The requests in the bytes of one connection: HTTP/1.1 parsed by httptools, held against the limits.

A client that keeps its connection sends the same head again and again. The head of the last request that came whole is
kept; where the next bytes begin with it and are as many, they are taken as they are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import httptools

from ..limits import Limits
from ..refusal import Refusal, not_now
from .connections import Admits, let_in
from .head import BodyPlan, plan_body
from .messages import Request

_STRANGERS_BYTES = 16 * 1024
"""A body up to this size is read before it is asked who sends it: then the connection can stay, with its 401."""


class _Repeat:
    """The head of the last request that came whole, in one piece with its body."""

    __slots__ = ("body_bytes", "head", "head_bytes", "like", "size")

    def __init__(self, head: bytes, size: int, like: Request) -> None:
        self.head = head
        self.size = size
        """Of head and body."""
        self.head_bytes = len(head)
        self.body_bytes = size - len(head)
        self.like = Request(like.method, like.target, like.headers, memoryview(b""), True, like.http_minor, 0)


class Incoming:
    """Bytes in; requests, or one refusal after which nothing follows, in `arrived`.

    Methods named `on_…` are called by the parser. It refers to this object and this object to it: `forget` what is not
    needed any more, or both stay until the collector comes by.
    """

    def __init__(self, limits: Limits, hold: Callable[[int], bool], admits: Admits = let_in) -> None:
        """`hold` reserves bytes for a body; False where all connections hold too much. `admits` knows who may send."""
        self._limits = limits
        self._hold = hold
        self._admits = admits
        self._parser = httptools.HttpRequestParser(self)
        self._repeat: _Repeat | None = None
        self.arrived: deque[Request | Refusal] = deque()
        """What waits to be handled; whoever handles it takes it out."""
        self.messages = 0
        """Requests that have begun so far."""
        self.held_bytes = 0
        """What `hold` has given and nobody has released."""
        self.continue_owed = False
        """The client waits for `100 Continue` before it sends the body."""
        self.forget()

    @property
    def midway(self) -> bool:
        """True while a request has begun and is not complete."""
        return self._in_head or self._in_body

    @property
    def in_body(self) -> bool:
        """True while the body of a request is missing, or a part of it."""
        return self._in_body

    def feed(self, data: bytes) -> None:
        """Take what has been received."""
        if self._repeat is not None and self._takes_repeated(self._repeat, data):
            return
        begins_message = not self.midway
        message, in_body, body_before = self.messages, self._in_body, self._body_bytes
        if self._in_head:
            self._unparsed_head_bytes += len(data)
        self._parse(data)
        if self._unparsed_head_bytes > self._limits.head_bytes:
            self._refuse(Refusal(431, f"the request head is larger than {self._limits.head_bytes} bytes"))
        if in_body and self.messages == message and self._plan.length is None:
            self._overhead_bytes += len(data) - (self._body_bytes - body_before)
            if self._overhead_bytes > self._limits.chunk_overhead_bytes:
                self._refuse(Refusal(413, "the chunked body has too many bytes that are not data"))
        if self.refusal is not None:
            self.arrived.append(self.refusal)
        elif begins_message and self.messages == message + 1:
            self._learn(data)

    def _learn(self, data: bytes) -> None:
        """Keep the head of a message that came whole in one piece: the next one has probably the same."""
        self._repeat = None
        if self.midway or not self.arrived or self._parser.should_upgrade():
            return
        if data[-1] in b"\r\n":
            return  # the parser skips line ends between messages: whether these are the body's last bytes is not seen
        item = self.arrived[-1]
        if isinstance(item, Request) and item.keep_alive and b"content-length" in item.headers:
            head_bytes = len(data) - len(item.body)
            if data[head_bytes - 4 : head_bytes] == b"\r\n\r\n" and b"expect" not in item.headers:
                self._repeat = _Repeat(data[:head_bytes], len(data), item)

    def _takes_repeated(self, repeat: _Repeat, data: bytes) -> bool:
        """Take a request whose head is, byte for byte, the one before it: parsing it again would give the same."""
        if len(data) != repeat.size or self._in_head or self._in_body or not data.startswith(repeat.head):
            return False
        if not self._hold(repeat.body_bytes):
            return False
        self.held_bytes += repeat.body_bytes
        body = memoryview(data)[repeat.head_bytes :]
        self.messages += 1
        like = repeat.like
        self.arrived.append(
            Request(like.method, like.target, like.headers, body, True, like.http_minor, time.perf_counter_ns())
        )
        return True

    def _parse(self, data: bytes) -> None:
        rest: memoryview | None = memoryview(data)
        while rest is not None:  # no recursion: one piece may hold thousands of offers
            rest = self._parse_to_offer(rest)

    def _parse_to_offer(self, data: bytes | memoryview) -> memoryview | None:
        """Parse up to the first offer to upgrade, and decline that. Returns what is behind it."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade()
            return None if self.refusal is not None else memoryview(data)[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            if not (self.arrived and isinstance(self.arrived[-1], Request) and not self.arrived[-1].keep_alive):
                self._refuse(Refusal(400, f"malformed HTTP: {error}"))
        return None

    def _decline_upgrade(self) -> None:
        # RFC 9110 lets a server ignore Upgrade (Java's client offers h2c with every first request). The parser has
        # skipped the body, so the same head is parsed again without the offer.
        if self.refusal is not None:
            return
        if self._method == b"CONNECT":
            self._refuse(Refusal(405, "CONNECT is not served here"))
            return
        kept = [(n, v) for n, v in self._headers.items() if n not in {b"upgrade", b"connection", b"http2-settings"}]
        head = b"%s %s HTTP/1.1\r\n" % (self._method, self._target)
        self._parser = httptools.HttpRequestParser(self)
        self._parse_to_offer(head + b"".join(b"%s: %s\r\n" % pair for pair in kept) + b"\r\n")

    def forget(self) -> None:
        """Forget the request that is being received."""
        self._method = b""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_count = 0
        self._head_bytes = 0
        self._unparsed_head_bytes = 0
        self._overhead_bytes = 0
        self._chunks = 0
        self._body: bytearray | bytes = b""
        self._body_bytes = 0
        self._plan = BodyPlan(0, 0, wants_continue=False)
        self._in_head = False
        self._in_body = False
        self.refusal: Refusal | None = None

    def on_message_begin(self) -> None:
        if self.refusal is None:
            self.forget()
            self.messages += 1
            self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._count_head(len(name) + len(value) + 4) or self._in_body:
            return  # trailer fields are counted and otherwise ignored
        name, value = name.lower(), value.strip()
        self._header_count += 1
        if self._header_count > self._limits.headers:
            self._refuse(Refusal(431, f"more than {self._limits.headers} header fields"))
        self._headers[name] = self._headers[name] + b", " + value if name in self._headers else value

    def _count_head(self, size: int) -> bool:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            self._refuse(Refusal(431, f"the request head is larger than {self._limits.head_bytes} bytes"))
        return self.refusal is None

    def on_headers_complete(self) -> None:
        self._method = self._parser.get_method()
        self._in_head, self._in_body = False, True
        self._unparsed_head_bytes = self._head_bytes = 0
        if self.refusal is not None or self._parser.should_upgrade():
            return
        try:
            self._plan = plan_body(self._headers, self._parser.get_http_version(), self._limits)
        except Refusal as error:
            self._refuse(error)
            return
        if self._plan.length is None or self._plan.length > _STRANGERS_BYTES:
            refusal = self._admits(self._target, self._headers)
            if refusal is not None:
                self._refuse(refusal)
                return
        self.continue_owed = self._plan.wants_continue

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > self._limits.chunks:
            self._refuse(Refusal(413, f"more than {self._limits.chunks} chunks in one body"))

    def on_body(self, data: bytes) -> None:
        if self.refusal is not None:
            return
        self.continue_owed = False
        size = len(data)
        self._body_bytes += size
        if self._body_bytes > self._limits.body_bytes:
            self._refuse(Refusal(413, f"the body is larger than the limit of {self._limits.body_bytes} bytes"))
        elif not self._hold(size):
            self._refuse(not_now("too many large requests at one time"))
        elif size == self._plan.length:
            self.held_bytes += size
            self._body = data  # the whole body in one piece: no copy
        else:
            self.held_bytes += size
            if not isinstance(self._body, bytearray):
                self._body = bytearray(self._plan.padding)
            self._body += data

    def on_message_complete(self) -> None:
        if self.refusal is not None or self._parser.should_upgrade():
            return
        view = memoryview(self._body)
        self.arrived.append(
            Request(
                method=self._method,
                target=self._target,
                headers=self._headers,
                body=view[self._plan.padding :] if isinstance(self._body, bytearray) else view,
                keep_alive=self._parser.should_keep_alive(),
                http_minor=1 if self._parser.get_http_version() == "1.1" else 0,
                received_ns=time.perf_counter_ns(),
            )
        )
        self.forget()

    def _refuse(self, error: Refusal) -> None:
        if self.refusal is None:
            self.refusal = error
