"""Entry point of the server process; the agent starts it. See `process` for what it does."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    """Serve on inherited sockets until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m edgewright.runtime.server", description=__doc__)
    parser.add_argument(
        "--control-fd", type=int, required=True, help="one end of a socket pair; the agent has the other"
    )
    parser.add_argument("--listen-fds", required=True, help="listening sockets, for example 3,4")
    parser.add_argument("--counters-dir", type=Path, required=True, help="where the counter files go")
    parser.add_argument("--boot", required=True, help="boot id of the kernel, for telemetry")
    parser.add_argument("--window-s", type=int, default=60, help="length of a telemetry window")
    parser.add_argument("--emulated", action="store_true", help="exact arithmetic, for a rehearsal device")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s server %(levelname)s %(message)s", stream=sys.stderr)
    control = socket.socket(fileno=arguments.control_fd)
    listening = [socket.socket(fileno=int(number)) for number in arguments.listen_fds.split(",")]

    from .process import ServerOptions, ServerProcess

    options = ServerOptions(
        counters_dir=arguments.counters_dir,
        boot=arguments.boot,
        window_s=max(1, arguments.window_s),
        emulated=arguments.emulated,
    )

    async def serve() -> None:
        await ServerProcess(options, control, listening).run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())
    sys.stderr.flush()
    # Counters and connections are closed. A thread may still be inside an engine that loads a model: not waited for.
    os._exit(0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return asyncio.new_event_loop
    return factory


if __name__ == "__main__":
    main()
