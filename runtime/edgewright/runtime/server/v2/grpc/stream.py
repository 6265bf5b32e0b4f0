"""ModelStreamInfer: many inferences on one stream. They run together; answers come in the order of the requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from ...limits import Limits
from ...refusal import Refusal, not_now
from .infer import Inferences
from .inference import Head
from .refusing import INTERNAL, refuse
from .schema import message
from .status import message_of
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
    """Serves streams until `draining` is set: then what was accepted is answered and the stream ends."""

    def __init__(self, inferences: Inferences, limits: Limits, draining: asyncio.Event) -> None:
        self._inferences = inferences
        self._limits = limits
        self._draining = draining

    async def serve(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Yield one `ModelStreamInferResponse` for each request."""
        source = aiter(requests)
        draining = asyncio.ensure_future(self._draining.wait())
        answers: deque[asyncio.Future[bytes]] = deque()
        incoming: asyncio.Future[bytes | None] | None = asyncio.ensure_future(_next(source))
        try:
            while incoming is not None or answers:
                await _first(incoming if len(answers) < self._limits.pipelined else None, answers, draining)
                while answers and answers[0].done():
                    yield answers.popleft().result()
                if incoming is not None and incoming.done():
                    data = incoming.result()
                    if data is not None:
                        answers.append(asyncio.ensure_future(self._answer(data, context.time_remaining())))
                    incoming = None if data is None else asyncio.ensure_future(_next(source))
                elif incoming is not None and draining.done():
                    incoming.cancel()
                    incoming = None
            if draining.done():
                await refuse(context, not_now("the server is shutting down"))
        finally:
            for future in (incoming, draining, *answers):
                if future is not None:
                    future.cancel()

    async def _answer(self, data: bytes, remaining_s: float | None) -> bytes:
        received_ns = time.perf_counter_ns()
        head: Head | None = None
        try:
            head, raw = self._inferences.open(data)
            response = await self._inferences.answer(head, raw, received_ns, remaining_s)
        except Refusal as refusal:
            return _error(head, refusal)
        except Exception:  # noqa: BLE001 - told to the client as INTERNAL, and to the log with its traceback
            _log.exception("ModelStreamInfer failed")
            return _error(head, INTERNAL)
        if head.wants_final:
            response += _FINAL
        return b"".join(fields_of(_INFER_RESPONSE, [response]))


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)


async def _first(
    incoming: asyncio.Future[bytes | None] | None, answers: deque[asyncio.Future[bytes]], draining: asyncio.Future[Any]
) -> None:
    """Wait until there is something to do: a request where more may be taken, the next answer, or the end."""
    waited: list[asyncio.Future[Any]] = [] if incoming is None else [incoming]
    if answers:
        waited.append(answers[0])
    if incoming is not None and not draining.done():
        waited.append(draining)
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)


def _error(head: Head | None, refusal: Refusal) -> bytes:
    """The id goes with it, so that a client knows which of its requests failed."""
    response = _StreamResponse(error_message=message_of(refusal))
    if head is not None and head.id:
        response.infer_response.id = head.id
    data: bytes = response.SerializeToString()
    return data
