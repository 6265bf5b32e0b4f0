"""How calls are answered: the header fields that begin an answer, and those that end it."""

from __future__ import annotations

from ...http2.stream import Fields
from ...refusal import Refusal
from .head import ACCEPTED, CONTENT_TYPE
from .status import trailers_of

HEAD: Fields = ((b":status", b"200"), (b"content-type", CONTENT_TYPE), (b"grpc-accept-encoding", ACCEPTED))
OK: Fields = ((b"grpc-status", b"0"),)


def too_late() -> Refusal:
    return Refusal(504, "the deadline of the call has passed")


def too_slow(receive_s: float) -> Refusal:
    return Refusal(408, f"the message did not arrive within {receive_s:g} s")


def only_trailers(refusal: Refusal) -> Fields:
    """Return the whole answer of a call that is refused before anything else was said (gRPC's "Trailers-Only")."""
    return (*HEAD, *trailers_of(refusal))
