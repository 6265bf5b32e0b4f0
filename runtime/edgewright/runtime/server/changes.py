"""Changes of the models in service, one at a time, whoever asks: the agent, or a client on an admin listener."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from edgewright.targets.faults import Fault

from ..control import Done, Failed, Load, Unload
from .installed import InstalledModels
from .model_table import ModelTable

_log = logging.getLogger(__name__)

_REASON_LENGTH = 4096
"""Engines can be talkative; a reply must fit a line of the control channel."""

Finished = Callable[[Done | Failed], None]


class Changes:
    """A queue of loads and unloads over a model table. `run` is its one task."""

    def __init__(self, table: ModelTable, installed: InstalledModels) -> None:
        self._table = table
        self._installed = installed
        self._queue: asyncio.Queue[tuple[Load | Unload, Finished]] = asyncio.Queue()

    def ask(self, change: Load | Unload, finished: Finished) -> None:
        """Have a change made when those before it are; `finished` is called once, on the event loop."""
        self._queue.put_nowait((change, finished))

    @property
    def waiting(self) -> int:
        """Changes that have not begun."""
        return self._queue.qsize()

    async def run(self) -> None:
        """Make changes for ever."""
        while True:
            change, finished = await self._queue.get()
            reply = await self._made(change)
            try:
                finished(reply)
            except Exception:  # noqa: BLE001 - the changes behind it are made all the same
                _log.exception("who asked for a change of the models could not be told how it went")

    async def _made(self, change: Load | Unload) -> Done | Failed:
        try:
            return Done(id=change.id, detail=await self._make(change))
        except Fault as fault:
            _log.error("%s", fault)
            return Failed(id=change.id, reason=str(fault)[:_REASON_LENGTH])
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; what ran before goes on
            _log.exception("loading failed")
            return Failed(id=change.id, reason=f"{type(error).__name__}: {error}"[:_REASON_LENGTH])

    async def _make(self, change: Load | Unload) -> dict[str, float | int | str]:
        if isinstance(change, Load):
            detail = await self._table.load(change)
            self._installed.used(change)
            return detail
        self._table.unload(change.model, change.version)
        return {}
