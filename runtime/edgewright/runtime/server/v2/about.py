"""What the server says of itself, in REST and in gRPC."""

from __future__ import annotations

import functools
from typing import Any

from ..model_table import ModelTable
from ..refusal import not_now
from ..state import ServerState


def server_metadata(extensions: tuple[str, ...]) -> dict[str, Any]:
    """Return name, version and extensions."""
    return {"name": "edgewright", "version": _version(), "extensions": extensions}


def check_server_ready(table: ModelTable, state: ServerState) -> None:
    """Return if every model that the server was given can be asked.

    Raises:
        Refusal: 503, not yet or no more.
    """
    if state.draining:
        raise not_now("the server is shutting down")
    if table.starting:
        raise not_now(f"model '{table.loading}' is being loaded")


@functools.cache
def _version() -> str:
    from importlib import metadata  # imported here because it takes a tenth of the start-up time

    return metadata.version("edgewright")
