"""From the settings of a listener to the listener: what its clients must prove, and what stands before the handler."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from edgewright.targets.faults import UserFault

from ...serving import ListenerSettings
from ..limits import Limits
from ..local.listener import TensorListener
from .auth import Tokens, admission, with_tokens
from .compression import with_compression
from .connection import Connection
from .exposure import check_exposure
from .listener import Listener
from .messages import Handler

Kind = Literal["data", "admin"]


class TokensUnreadable(UserFault):
    """A listener's clients need a token and there are none to compare with."""


def open_listener(
    settings: ListenerSettings, handler_of: Callable[[Kind], Handler], limits: Limits
) -> Listener | TensorListener:
    """Return the listener on an inherited socket; it accepts nothing before `resume`.

    Raises:
        Exposed: strangers could reach it.
        TlsRefused: its certificate cannot be used.
        TokensUnreadable: its file of tokens cannot be read.
    """
    listening = socket.socket(fileno=settings.fd)
    if settings.kind == "tensors":
        return TensorListener(listening, handler_of("data"), limits, frozenset(settings.uids))
    check_exposure(listening, settings)
    handler = with_compression(handler_of("admin" if settings.kind == "admin" else "data"), limits)
    admits = None
    if settings.token_file is not None:
        try:
            admits = admission(Tokens(Path(settings.token_file)))
        except OSError as error:
            raise TokensUnreadable(f"the tokens of a listener cannot be read: {error}") from error
        handler = with_tokens(handler, admits)
    tls = None
    if settings.tls is not None:
        from .tls import server_context  # OpenSSL costs 3 MB: only where a listener speaks TLS

        tls = server_context(settings.tls, "http/1.1")
    listener = Listener(listening, functools.partial(Connection, handler, limits), limits, tls)
    if admits is not None:
        listener.connections.admits = admits
    return listener
