"""The worker itself: loads one bundle, proves it, then runs it as often as it is asked.

It ends when the server does, whatever it is doing then: the kernel kills it (PR_SET_PDEATHSIG), and the channel's end
says so, too. SIGTERM and SIGINT are left to the server: a service manager sends them to the whole group, and the server
must still get the answers that it drains.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.targets.faults import Fault, UserFault

from ...engines.protocol import LoadOptions
from .messages import ChannelError, Message, Proved, Raised, Ran, Run, receive, send

if TYPE_CHECKING:
    from ...engines.protocol import Instance
    from ..loading import LoadedModel
    from .arena import Arena

_PR_SET_PDEATHSIG = 1
_REASON_LENGTH = 4096


def main() -> None:
    """Serve one model over the inherited channel."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(prog="python -m edgewright.runtime.server.worker")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--arena-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True, help="process id of the server")
    parser.add_argument("--max-batch-rows", type=int, required=True)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--emulated", action="store_true")
    arguments = parser.parse_args()
    _end_with(arguments.parent)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(2, 1)  # engines print from native code; nobody reads it here
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the server: numpy's algebra is never called
    channel = socket.socket(fileno=arguments.channel_fd)
    # Not sooner: it takes half a second, in which a parent may die.
    from ..loading import load_bundle

    options = LoadOptions(emulated=arguments.emulated, threads=arguments.threads)
    with contextlib.suppress(ChannelError):
        _serve(channel, arguments.arena_fd, lambda: load_bundle(arguments.directory, options, arguments.max_batch_rows))
    # Engines may have threads that would hold an orderly end up; there is nothing here to be kept.
    os._exit(0)


def _end_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was told
        os._exit(0)


def _serve(channel: socket.socket, arena_fd: int, load: Callable[[], LoadedModel]) -> None:
    from .arena import Arena

    arena = Arena(arena_fd)
    try:
        loaded = load()
    except Exception as error:  # noqa: BLE001 - an engine may raise anything: the server is told
        send(channel, _raised(error))
        return
    send(channel, Proved(loaded.p50_s, loaded.warm_up))
    while True:
        asked = receive(channel)
        if not isinstance(asked, Run):
            raise ChannelError(f"expected Run, got {type(asked).__name__}")
        send(channel, _answer(loaded.instance, arena, asked))


def _answer(instance: Instance, arena: Arena, asked: Run) -> Message:
    """Run the model. Its outputs may be parts of its inputs, so they are written behind those."""
    try:
        arena.follow(asked.arena_bytes)
        outputs = instance.run(arena.read(asked.inputs, copy=False))
    except Exception as error:  # noqa: BLE001 - it is this request that failed
        return _raised(error, refused=isinstance(error, UserFault))
    try:
        places, _ = arena.write(outputs, asked.end)
    except Exception as error:  # noqa: BLE001 - as above
        return _raised(error)
    return Ran(arena.size_bytes, places)


def _raised(error: Exception, *, refused: bool = False) -> Raised:
    kind = type(error).__name__
    reason = str(error) if isinstance(error, Fault) else f"{kind}: {error}"
    return Raised(kind, reason[:_REASON_LENGTH], refused)
