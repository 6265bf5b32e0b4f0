"""ModelStreamInfer: many inferences on one stream. They run together; answers come in the order of the requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator

from ...limits import Limits
from ...pipeline import Job
from ...refusal import Refusal, not_now
from .infer import Inferences
from .inference import Head
from .messages import Message
from .schema import message
from .status import INTERNAL, message_of
from .streaming import StreamingCall
from .wire import fields_of

_log = logging.getLogger(__name__)

_StreamResponse = message("ModelStreamInferResponse")
_Response = message("ModelInferResponse")

_INFER_RESPONSE = 2
"""Number of the field in `ModelStreamInferResponse`."""


def _final_mark() -> bytes:
    """A piece of a `ModelInferResponse`: pieces that are put one behind the other are one message."""
    response = _Response()
    response.parameters["triton_final_response"].bool_param = True
    mark: bytes = response.SerializeToString()
    return mark


_FINAL = _final_mark()


class InferenceStreams:
    """Answers streams until the server ends: then what was accepted is answered, and the stream ends."""

    def __init__(self, inferences: Inferences, limits: Limits) -> None:
        self._inferences = inferences
        self._limits = limits

    async def answers(self, call: StreamingCall) -> AsyncGenerator[Message, None]:
        """Yield one `ModelStreamInferResponse` for each request.

        Raises:
            Refusal: the server ends, or a request is none.
        """
        waiting: deque[_Waiting] = deque()
        try:
            while waiting or not (call.finished or call.draining):
                moved = self._begin(call, waiting)
                while waiting and waiting[0].answer is not None:
                    first = waiting.popleft()
                    yield first.answer or b""  # until its client has nearly all of it
                    call.release(first.held_bytes)
                    moved = True
                # After each round the others have their turn, whatever one client sends.
                await (asyncio.sleep(0) if moved else call.wait())
            if not call.finished:
                raise not_now("the server is shutting down")
        finally:
            for each in waiting:
                if each.job is not None:
                    each.job.cancel()

    def _begin(self, call: StreamingCall, waiting: deque[_Waiting]) -> bool:
        """Begin what has come, as far as it may run at one time; returns whether something has."""
        begun = False
        while len(waiting) < self._limits.pipelined and not call.draining and (taken := call.take()) is not None:
            message, held_bytes = taken
            waiting.append(self._begun(call, message, held_bytes))
            begun = True
        return begun

    def _begun(self, call: StreamingCall, message: Message, held_bytes: int) -> _Waiting:
        one = _Waiting(held_bytes)
        head: Head | None = None

        def answered(result: bytes | Refusal) -> None:
            response = _response(head, result)
            if call.hold(len(response)):
                one.held_bytes += len(response)
            else:
                response = _error(head, not_now("too many large answers wait for their clients"))
            one.answer = response
            call.change()

        try:
            head, raw = self._inferences.open(message)
            one.job = self._inferences.submit(head, raw, time.perf_counter_ns(), call.deadline_ns, answered)
        except Refusal as refusal:
            one.answer = _error(head, refusal)
        except Exception:  # noqa: BLE001 - told to the client as INTERNAL, and to the log with its traceback
            _log.exception("ModelStreamInfer failed")
            one.answer = _error(head, INTERNAL)
        return one


class _Waiting:
    """A request of the stream that is not answered yet."""

    __slots__ = ("answer", "held_bytes", "job")

    def __init__(self, held_bytes: int) -> None:
        self.held_bytes = held_bytes
        self.job: Job | None = None
        self.answer: bytes | None = None


def _response(head: Head | None, result: bytes | Refusal) -> bytes:
    if isinstance(result, Refusal):
        return _error(head, result)
    if head is not None and head.wants_final:
        result += _FINAL
    return b"".join(fields_of(_INFER_RESPONSE, [result]))


def _error(head: Head | None, refusal: Refusal) -> bytes:
    """The id goes with it, so that a client knows which of its requests failed."""
    response = _StreamResponse(error_message=message_of(refusal))
    if head is not None and head.id:
        response.infer_response.id = head.id
    data: bytes = response.SerializeToString()
    return data
