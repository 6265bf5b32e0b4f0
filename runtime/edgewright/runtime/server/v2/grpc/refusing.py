"""Handlers that end a call with a status, whatever kind of call it is, without reading what the client sends."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

import grpc

from ...refusal import Refusal
from .status import code_of, message_of, trailer_of

_log = logging.getLogger(__name__)

INTERNAL = Refusal(500, "internal error; the server's log has the details")


async def refuse(context: Any, refusal: Refusal) -> NoReturn:
    """End a call with the status of a refusal."""
    await context.abort(code_of(refusal), message_of(refusal), trailer_of(refusal))
    raise AssertionError("abort raises")


async def fail(context: Any, method: str) -> NoReturn:
    """End a call that met a bug of ours; called while the exception is handled."""
    _log.exception("%s failed", method)
    await refuse(context, INTERNAL)


def refusing_handler(refusal: Refusal) -> grpc.RpcMethodHandler:
    """Return a handler that refuses every call."""

    async def call(requests: Any, context: Any) -> None:
        del requests
        await refuse(context, refusal)

    return grpc.stream_stream_rpc_method_handler(call)
