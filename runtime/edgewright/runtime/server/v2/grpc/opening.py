"""From a new stream to the call on it, or to the refusal that it gets."""

from __future__ import annotations

import asyncio

from ...http.connections import Connections
from ...http2.stream import Answering, Fields, Stream
from ...limits import Limits
from ...refusal import Refusal, not_now
from .admission import Admits
from .answers import only_trailers
from .head import CallHead, NotGrpc, read_head
from .messages import Messages
from .open_calls import OpenCalls
from .service import Service
from .streaming import StreamingCall
from .unary import UnaryCall


class Opening:
    """Opens the calls of one connection (`http2.stream.Opened`).

    A client says the same before each of its calls: what was made of it last is kept.
    """

    def __init__(
        self, service: Service, admits: Admits, open_calls: OpenCalls, connections: Connections, limits: Limits
    ) -> None:
        self._service = service
        self._admits = admits
        self._open_calls = open_calls
        self._connections = connections
        self._limits = limits
        self._fields: Fields = ()
        self._head = CallHead(b"", None, None, None, None)

    def __call__(self, stream: Stream, fields: Fields) -> Answering:
        """Raises nothing."""
        if fields is not self._fields:
            try:
                self._head = read_head(fields, self._limits)
            except NotGrpc as error:
                return RefusedRequest(stream, ((b":status", b"%d" % error.status),))
            self._fields = fields
        head = self._head
        refusal = head.refusal or self._admits(head) or self._open_calls.full()
        if refusal is not None:
            return RefusedRequest(stream, only_trailers(refusal))
        messages = Messages(self._connections, self._limits, head.coding)
        unary = self._service.unary.get(head.path)
        if unary is not None:
            return UnaryCall(stream, head, unary, messages, self._open_calls, self._limits)
        streaming = self._service.streaming.get(head.path)
        if streaming is None:
            return RefusedRequest(stream, only_trailers(_unknown(head.path)))
        if self._open_calls.draining:
            return RefusedRequest(stream, only_trailers(not_now("the server is shutting down")))
        return StreamingCall(stream, head, streaming, messages, self._open_calls, self._limits)


class RefusedRequest:
    """A request that is answered without being read."""

    def __init__(self, stream: Stream, answer: Fields) -> None:
        """The answer goes out with the end of what has been received so far: short requests are complete by then."""
        self._stream: Stream | None = stream
        self._answer = answer
        asyncio.get_running_loop().call_soon(self._refuse)

    def data(self, data: bytes, size_bytes: int) -> None:
        del data
        if self._stream is not None:
            self._stream.took(size_bytes)

    def ended(self, trailers: Fields) -> None:
        del trailers
        self._refuse()

    def gone(self) -> None:
        self._stream = None

    def _refuse(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.end(self._answer)


def _unknown(path: bytes) -> Refusal:
    return Refusal(501, f"unknown method {path.decode(errors='replace')[:200]}")
