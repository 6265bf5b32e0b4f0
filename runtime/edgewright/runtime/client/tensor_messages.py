"""What a client says over shared memory, and what it makes of the answers. No waiting happens here."""

from __future__ import annotations

import os

from ..server.local.descriptors import Received
from ..server.local.frames import INLINE_BYTES, BadFrame, Call, Reply, decode, encode
from ..server.local.sealed import NotSealed, map_sealed, sealed_memory
from .errors import BadAnswer
from .http1 import MAX_BODY_BYTES, Answer, Outgoing

_LENGTH_FIELD = "inference-header-content-length"


class TensorMessages:
    """The calls of one connection, one at a time."""

    def __init__(self) -> None:
        self._call = 0
        self.used = False
        """Whether an answer has come before."""

    def spell(self, request: Outgoing) -> tuple[bytes, int | None]:
        """Return the message of a request and the memory that goes with it; whoever calls closes the descriptor.

        Raises:
            ValueError: the name of the model is too long for a message.
            OSError: no memory or descriptor is left for the tensors.
        """
        self._call += 1
        if request.length <= INLINE_BYTES:
            length = dict(request.fields).get(_LENGTH_FIELD)
            envelope = Call(self._call, request.target, 0, None if length is None else int(length), request.method)
            return encode(envelope, request.body), None
        head, *tensors = request.body
        size_bytes = sum(map(len, tensors))
        message = encode(Call(self._call, request.target, size_bytes, None, request.method), (head,))
        return message, sealed_memory(tensors) if request.descriptor is None else os.dup(request.descriptor)

    def answer(self, received: Received) -> Answer:
        """Return the answer in a message, and close what came with it.

        Raises:
            BadAnswer: it is none, or none to the last request.
        """
        try:
            return self._answer(received)
        finally:
            if received.descriptor is not None:
                os.close(received.descriptor)

    def _answer(self, received: Received) -> Answer:
        tensors = None
        try:
            reply, body = decode(received.data, Reply)
            if received.descriptor is not None and reply.memfd_bytes <= MAX_BODY_BYTES:
                tensors = map_sealed(received.descriptor, reply.memfd_bytes)
        except (BadFrame, NotSealed) as error:
            raise BadAnswer(f"the answer is none: {error}") from error
        if reply.call not in {0, self._call} or (tensors is None) != (reply.memfd_bytes == 0):
            raise BadAnswer(f"the answer is to call {reply.call}, expected {self._call}; or its memory did not come")
        self.used = reply.call != 0
        headers = dict(reply.headers)
        if reply.json_bytes is not None:
            headers[_LENGTH_FIELD] = str(reply.json_bytes)
        if tensors is not None and not body:
            return Answer(reply.status, headers, tensors)  # a long text
        return Answer(reply.status, headers, body, tensors)
