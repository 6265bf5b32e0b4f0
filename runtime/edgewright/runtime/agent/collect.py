"""Carries the server's counts from its shared files into the spool."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path

from ..telemetry.counters import SUFFIX, CounterFileError, incarnation_of, read_counters
from ..telemetry.spool import Spool, SpoolFault

_log = logging.getLogger(__name__)


class Collector:
    """Reads every counter file; appends what changed; deletes a finished file once its last record is on the medium."""

    def __init__(self, spool: Spool, directory: Path, wall_clock: Callable[[], float]) -> None:
        self._spool = spool
        self._directory = directory
        self._wall_clock = wall_clock
        self._reported: dict[Path, int] = {}

    def collect(self, alive: AbstractSet[str]) -> int:
        """Go through the files once; `alive` servers may still write. Returns the number of new records."""
        finished: list[Path] = []
        added = 0
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            try:
                added += self._one(path, incarnation_of(path) in alive, finished)
            except CounterFileError as error:
                _log.warning("%s", error)
            except SpoolFault as fault:
                _log.error("%s; the counts stay in their files", fault)
                return added
        if self._commit():
            for path in finished:
                path.unlink(missing_ok=True)
                self._reported.pop(path, None)
        return added

    def _one(self, path: Path, writer_alive: bool, finished: list[Path]) -> int:
        record = read_counters(path, writer_alive=writer_alive)
        fresh = self._reported.get(path, -1) < record.seq and (record.requests > 0 or record.crashes > 0)
        if fresh:
            self._spool.append(record, self._wall_clock())
            self._reported[path] = record.seq
        if record.closed:
            finished.append(path)
        return int(fresh)

    def _commit(self) -> bool:
        try:
            self._spool.commit()
        except SpoolFault as fault:
            _log.error("%s; the counts stay in their files", fault)
            return False
        return True
