"""Entry point of the server process: its command line, its event loop."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import socket
import sys
from collections.abc import Callable

import msgspec

from edgewright.targets.faults import Fault

from ..serving import ServerSettings, decode_settings
from .memory import return_large_blocks

_USAGE = """usage: python -m edgewright.runtime.server --control-fd N SETTINGS
  --control-fd N   one end of a socket pair; the agent has the other
  SETTINGS         one JSON object, see `edgewright.runtime.serving.ServerSettings`"""


_SWITCH_INTERVAL_S = 0.0005
"""A thread that has run a model waits so long for its turn while the event loop is busy. Python's 5 ms are more
than many models take."""
_GARBAGE_THRESHOLDS = (20_000, 20, 50)
"""Requests leave no cycles. Those that models leave are collected when a model is given back (`memory`)."""


def main() -> None:
    """Serve on inherited sockets until told to stop."""
    control_fd, settings = _arguments(sys.argv[1:])
    return_large_blocks()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s server %(levelname)s %(message)s", stream=sys.stderr)

    # numpy's linear algebra is never called here; without this it starts a thread per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .process import ServerProcess

    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(*_GARBAGE_THRESHOLDS)

    async def serve() -> None:
        await ServerProcess(settings, socket.socket(fileno=control_fd)).run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(serve())
        except Fault as fault:
            sys.exit(f"the server cannot start: {fault}")
        sys.stderr.flush()
        # Counters and connections are closed. A thread may still be inside an engine that loads a model: the end of the
        # runner would wait for it.
        os._exit(0)


def _arguments(words: list[str]) -> tuple[int, ServerSettings]:
    """The control channel and the settings. The one user of this command line is the agent."""
    if len(words) != 3 or words[0] != "--control-fd" or not words[1].isdigit():
        sys.exit(_USAGE)
    try:
        return int(words[1]), decode_settings(words[2])
    except (msgspec.DecodeError, UnicodeError) as error:
        sys.exit(f"{_USAGE}\nSETTINGS are not understood: {error}")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return asyncio.new_event_loop
    return factory
