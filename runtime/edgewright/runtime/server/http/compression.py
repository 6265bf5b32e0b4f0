"""Compressed bodies: gzip and deflate, in both directions, around a handler.

Bodies are expanded by at most so many bytes and at most so many times their size: a bomb costs little and is refused.
zlib is imported when the first client wants it; most boards never do.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from ..limits import Limits
from ..refusal import Refusal
from .head import body_padding
from .messages import Handler, Payload, Request, Respond, Response

CODINGS = (b"gzip", b"deflate")

_SMALLEST_BYTES = 1024
"""Smaller answers fit a packet as they are."""
_LARGEST_BYTES = 4 * 1024 * 1024
"""Compressing a larger answer would keep the event loop from other requests for a tenth of a second."""
_COMPRESSED = (b"/infer", b"/metrics", b"/openapi.json")
"""How the resources end whose answers may be compressed. tritonclient.http.aio says with each request that it accepts
gzip (aiohttp does), and expands the answers of inferences only: of a longer statistics it could make nothing."""
_LEVEL = 1
_EITHER_FORMAT = 32 + 15
"""zlib's window bits for "gzip or zlib, whichever comes": as Triton reads what is named gzip or deflate."""
_PIECE = 256 * 1024
_FREE_EXPANSION_BYTES = 1024 * 1024
"""Ratios are looked at beyond this size: an empty image is small and expands a thousandfold."""


def with_compression(handler: Handler, limits: Limits) -> Handler:
    """Return a handler that also takes compressed requests, and compresses answers for clients that accept it."""

    def handle(request: Request, respond: Respond) -> None:
        headers = request.headers
        coding = headers.get(b"content-encoding")
        if coding is not None and coding.lower() != b"identity":
            request.body = expanded(request.body, coding.lower(), limits, body_padding(headers))
        accepted = headers.get(b"accept-encoding")
        if (
            accepted is not None
            and _is_compressed(request.target)
            and (chosen := accepted_coding(accepted)) is not None
        ):
            respond = functools.partial(_compress, respond, chosen)
        handler(request, respond)

    return handle


def _is_compressed(target: bytes) -> bool:
    return target.partition(b"?")[0].endswith(_COMPRESSED)


def expanded(body: memoryview, coding: bytes, limits: Limits, padding: int = 0) -> memoryview:
    """Return the body that was compressed, placed so that `padding` bytes are before it.

    Raises:
        Refusal: 415 another coding, 413 it expands too far, 400 it is not what it says.
    """
    if coding not in CODINGS:
        raise Refusal(
            415, "bodies are taken as they are, or with Content-Encoding gzip or deflate",
            headers=((b"accept-encoding", b", ".join(CODINGS)),),
        )  # fmt: skip
    zlib: Any = importlib.import_module("zlib")
    most = min(limits.expanded_bytes, max(_FREE_EXPANSION_BYTES, len(body) * limits.expansion))
    machine = zlib.decompressobj(_EITHER_FORMAT)
    whole, taken = bytearray(padding), 0
    try:
        # The machine copies what it leaves of a piece, so that it gets small ones: the body as a whole would be copied
        # for every piece that comes out.
        rest = b""
        while not machine.eof and (rest or taken < len(body)):
            if not rest:
                rest = bytes(body[taken : taken + _PIECE])
                taken += len(rest)
            whole += machine.decompress(rest, _PIECE)
            rest = machine.unconsumed_tail
            if len(whole) - padding > most:
                raise Refusal(413, f"the compressed body expands to more than the limit of {most} bytes")
    except zlib.error as error:
        raise Refusal(400, f"the body is not {coding.decode()}: {error}") from error
    if not machine.eof or machine.unused_data or taken < len(body):
        raise Refusal(400, f"the body is not one whole {coding.decode()} stream")
    return memoryview(whole)[padding:]


@functools.lru_cache(maxsize=64)
def accepted_coding(field: bytes) -> bytes | None:
    """Return the coding that an Accept-Encoding field likes best, None where it wants the body as it is."""
    weights = dict(_weight(part) for part in field.lower().split(b","))
    other = weights.get(b"*", 0.0)
    # RFC 9110 §12.5.3: of equal weights the server chooses; a weight of 0 is not acceptable.
    best = max(CODINGS, key=lambda coding: weights.get(coding, other))
    weight = weights.get(best, other)
    return best if weight > 0 and weight >= weights.get(b"identity", 0.0) else None


def _weight(part: bytes) -> tuple[bytes, float]:
    coding, _, parameter = part.partition(b";")
    name, _, text = parameter.strip().partition(b"=")
    if name.strip() != b"q":
        return coding.strip(), 1.0
    try:
        weight = float(text)
    except ValueError:
        return coding.strip(), 0.0
    return coding.strip(), weight if 0 <= weight <= 1 else 0.0


def _compress(respond: Respond, coding: bytes, response: Response) -> None:
    if response.status == 200 and _SMALLEST_BYTES <= sum(map(len, response.body)) <= _LARGEST_BYTES:
        fields = (*response.headers, (b"content-encoding", coding), (b"vary", b"accept-encoding"))
        response = Response(response.status, [compressed(response.body, coding)], response.content_type, fields)
    respond(response)


def compressed(parts: list[Payload], coding: bytes) -> bytes:
    """Return the parts as one compressed body."""
    zlib: Any = importlib.import_module("zlib")
    machine = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31 if coding == b"gzip" else 15)
    pieces = [machine.compress(part) for part in parts]
    whole: bytes = b"".join((*pieces, machine.flush()))
    return whole
