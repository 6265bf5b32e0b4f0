"""Who may call: the tokens of a file, as on the HTTP listeners."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from edgewright.targets.faults import UserFault

from ...http.auth import Tokens
from ...refusal import Refusal

Admits = Callable[[str, Iterable[Any]], Refusal | None]
"""Takes a call's path and its metadata; returns why the caller is not let in."""

_OPEN = frozenset({"/inference.GRPCInferenceService/ServerLive"})
"""Whether there is a server tells nothing that the open port does not."""

_REFUSED = Refusal(401, "a token is needed: metadata authorization, Bearer …")


def with_tokens(path: str) -> Admits:
    """Return what lets in those who carry a token of the file.

    Raises:
        UserFault: it cannot be read.
    """
    try:
        tokens = Tokens(Path(path))
    except OSError as error:
        raise UserFault(f"the tokens for gRPC cannot be read: {error}") from error

    def admits(method: str, metadata: Iterable[Any]) -> Refusal | None:
        if method in _OPEN:
            return None
        given = next((value for key, value in metadata if key == "authorization"), None)
        text = given.encode() if isinstance(given, str) else given
        return None if tokens.allow(text, time.monotonic()) else _REFUSED

    return admits
