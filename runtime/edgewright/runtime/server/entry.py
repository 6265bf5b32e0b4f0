"""Entry point of the server process: its command line, its event loop."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

_USAGE = """usage: python -m edgewright.runtime.server OPTIONS
  --control-fd N       one end of a socket pair; the agent has the other
  --listen-fds N[,N]   listening sockets
  --counters-dir PATH  where the counter files go
  --boot ID            boot id of the kernel, for telemetry
  --window-s SECONDS   length of a telemetry window (60)
  --emulated           exact arithmetic, for a rehearsal device"""


def main() -> None:
    """Serve on inherited sockets until told to stop."""
    arguments = _arguments(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s server %(levelname)s %(message)s", stream=sys.stderr)
    control = socket.socket(fileno=int(arguments["--control-fd"]))
    listening = [socket.socket(fileno=int(number)) for number in arguments["--listen-fds"].split(",")]

    # numpy's linear algebra is never called here; without this it starts a thread per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .process import ServerOptions, ServerProcess

    options = ServerOptions(
        counters_dir=Path(arguments["--counters-dir"]),
        boot=arguments["--boot"],
        window_s=max(1, int(arguments["--window-s"])),
        emulated=bool(arguments["--emulated"]),
    )

    async def serve() -> None:
        await ServerProcess(options, control, listening).run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())
    sys.stderr.flush()
    # Counters and connections are closed. A thread may still be inside an engine that loads a model: not waited for.
    os._exit(0)


def _arguments(words: list[str]) -> dict[str, str]:
    """The command line by option. Its one user is the agent; argparse would stay in memory with half a megabyte."""
    found = {"--window-s": "60", "--emulated": ""}
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        name, _, value = word.partition("=")
        if name == "--emulated":
            found[name] = "yes"
        elif name in {"--control-fd", "--listen-fds", "--counters-dir", "--boot", "--window-s"} and (value or waiting):
            found[name] = value or waiting.pop()
        else:
            sys.exit(f"{_USAGE}\nnot understood: {word}")
    if missing := {"--control-fd", "--listen-fds", "--counters-dir", "--boot"} - found.keys():
        sys.exit(f"{_USAGE}\nmissing: {', '.join(sorted(missing))}")
    return found


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return asyncio.new_event_loop
    return factory
