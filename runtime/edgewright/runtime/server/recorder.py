"""Counts the requests of one served model into its counter files, one file a time window.

Serving goes before counting, and counting before exact windows. Where a full disk allows no new file, counts go on in
the file of the window before; where there is none, in memory, until a file can be made. Only a kill of the server in
that last state loses counts.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..telemetry.counters import CounterFile, CounterFileError, Identity

_log = logging.getLogger(__name__)

_ROOM_BYTES = 64 * 1024
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the counts belong to; the names are those of `WindowRecord`."""

    model: str
    version: str
    bundle: str
    reference: str
    histogram_sizes: tuple[int, ...]
    label_bins: int = 1
    """Of the first confidence histogram; 1 where there is none."""


@dataclass(slots=True)
class CounterStore:
    """Where one run of the server keeps its counter files, and how many it has made."""

    directory: Path
    boot: str
    incarnation: str
    window_s: int
    files: int = 0
    uses: Counter[tuple[str, str, str, int]] = field(default_factory=Counter)

    def create(self, counted: Counted, start_s: int) -> CounterFile:
        """Make the file of a window. No two files of one run share an identity: one would replace the other's sums.

        Raises:
            CounterFileError: the directory cannot be written, or is full.
        """
        key = (counted.model, counted.version, counted.bundle, start_s)
        again = self.uses[key] + 1
        file = CounterFile.create(self.directory, self.files, self.identity(counted, start_s, again))
        self.files += 1
        self.uses[key] = again
        self._forget_old_uses(start_s)
        return file

    def has_room(self, size_bytes: int) -> bool:
        """Whether a file of this size could be made now, as far as one can tell."""
        try:
            disk = os.statvfs(self.directory)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= size_bytes + _ROOM_BYTES and not disk.f_flag & os.ST_RDONLY

    def identity(self, counted: Counted, start_s: int, use: int) -> Identity:
        """Return what the counts of a window belong to; `use` tells files of the same window apart, from 1."""
        return Identity(
            model=counted.model,
            version=counted.version,
            bundle=counted.bundle,
            reference=counted.reference,
            window_start_s=start_s,
            window_s=self.window_s,
            boot=self.boot,
            incarnation=self.incarnation if use == 1 else f"{self.incarnation}.{use}",
            histogram_sizes=counted.histogram_sizes,
            label_bins=counted.label_bins,
        )

    def _forget_old_uses(self, start_s: int) -> None:
        # After this many windows a clock that is set back may repeat a key: bounded memory is worth more.
        while len(self.uses) > 4096:
            oldest = min(self.uses, key=lambda key: key[3])
            if oldest[3] >= start_s:
                return
            del self.uses[oldest]


class Recorder:
    """Counts requests of one bundle. All calls are made on the event loop."""

    def __init__(self, store: CounterStore, counted: Counted) -> None:
        self._store = store
        self._counted = counted
        self._file: CounterFile | None = None
        self._histograms: NDArray[np.uint64] | None = None
        self._window_start_s = -1
        self._memory: CounterFile | None = None
        self._refused_s: float | None = None
        """When the disk refused a file the last time."""
        self.uncounted = 0
        """Requests that no counter file could take when they were answered: they were counted in memory first."""

    def record(self, now_s: float, latencies_us: Sequence[int], *, rows: int, failures: int = 0) -> None:
        """Count requests that ended together. Call before a response is written, so that acknowledged <= counted."""
        if self._window_start_s != self._start_of(now_s) and self._may_retry(now_s):
            self._open(now_s)
        file = self._file
        if file is None:
            self.uncounted += len(latencies_us)
            file = self._in_memory()
        file.add_requests(latencies_us, rows, failures)

    def observed(self, cells: NDArray[Any]) -> None:
        """Add drift counts of requests that were recorded before; they go into the window that is open now."""
        file, histograms = self._file, self._histograms
        if file is None:
            file = self._in_memory()
            histograms = _histograms(file)
        if histograms is not None:
            with file.update():
                histograms += cells

    def add_energy(self, energy_uj: int, requests: int) -> None:
        """Add what the board used while these requests were executed, in microjoules."""
        self._open_file().add_energy(energy_uj, requests)

    def add_shadow(self, rows: int, disagreements: int) -> None:
        """Add samples that were answered as a shadow, and those of them that were answered otherwise."""
        self._open_file().add_shadow(rows, disagreements)

    def add_labels(self, told: Sequence[tuple[int, bool]]) -> None:
        """Add samples whose truth was told: the bin of their confidence, and whether they were answered right."""
        self._open_file().add_labels(told)

    def _open_file(self) -> CounterFile:
        return self._in_memory() if self._file is None else self._file

    def _in_memory(self) -> CounterFile:
        self._memory = self._memory or CounterFile.in_memory(self._store.identity(self._counted, 0, 1))
        return self._memory

    def tick(self, now_s: float) -> None:
        """Close the file of a window that is over; write out what was counted in memory."""
        over = self._file is not None and self._start_of(now_s) != self._window_start_s
        # Without room for the next file this one is still needed.
        if self._file is not None and over and self._store.has_room(self._file.size_bytes):
            self._close_file()
        if self._memory is not None and self._file is None:
            self._open(now_s)

    def close(self) -> None:
        """Close the current file. A later request opens the next one."""
        if self._memory is not None and self._file is None:
            self._open(time.time())
        if self._memory is not None and self._file is None:
            _log.error("%d requests of %s stay uncounted: there is no room", self.uncounted, self._counted.model)
            self._memory = None
        self._close_file()

    def _start_of(self, now_s: float) -> int:
        return int(now_s // self._store.window_s) * self._store.window_s

    def _may_retry(self, now_s: float) -> bool:
        return self._refused_s is None or abs(now_s - self._refused_s) >= _RETRY_S

    def _open(self, now_s: float) -> None:
        """Make the file of this window; where that cannot be, what there is stays in use for a while."""
        start_s = self._start_of(now_s)
        try:
            file = self._store.create(self._counted, start_s)
        except CounterFileError as error:
            if self._refused_s is None:
                _log.error("the counts of %s wait for room: %s", self._counted.model, str(error))
            self._refused_s = now_s
            return
        self._close_file()
        self._file, self._window_start_s, self._refused_s = file, start_s, None
        if self._memory is not None:
            file.absorb(self._memory)
            self._memory = None
        self._histograms = _histograms(file)

    def _close_file(self) -> None:
        self._window_start_s = -1
        if self._file is not None:
            self._histograms = None
            self._file.close()
            self._file = None


def _histograms(file: CounterFile) -> NDArray[np.uint64] | None:
    return np.frombuffer(file.histogram_cells, np.uint64) if len(file.histogram_cells) else None
