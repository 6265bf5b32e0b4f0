"""Who may call: the tokens of a file, as on the HTTP listeners."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edgewright.targets.faults import UserFault

from ...http.auth import Tokens
from ...refusal import Refusal
from .head import CallHead

Admits = Callable[[CallHead], Refusal | None]
"""Takes the head of a call; returns why the caller is not let in."""

_OPEN = frozenset({b"/inference.GRPCInferenceService/ServerLive"})
"""Whether there is a server tells nothing that the open port does not."""

_REFUSED = Refusal(401, "a token is needed: metadata authorization, Bearer …")


def everybody(head: CallHead) -> Refusal | None:
    """Let everybody in."""
    del head
    return None


def with_tokens(path: str) -> Admits:
    """Return what lets in those who carry a token of the file.

    Raises:
        UserFault: it cannot be read.
    """
    try:
        tokens = Tokens(Path(path))
    except OSError as error:
        raise UserFault(f"the tokens for gRPC cannot be read: {error}") from error

    def admits(head: CallHead) -> Refusal | None:
        if head.path in _OPEN or tokens.allow(head.authorization, time.monotonic()):
            return None
        return _REFUSED

    return admits
