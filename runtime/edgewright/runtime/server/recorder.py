"""Counts the requests of one served model into its counter files, one file a time window."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..telemetry.counters import CounterFile, CounterFileError, Identity

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the counts belong to; the names are those of `WindowRecord`."""

    model: str
    version: str
    bundle: str
    reference: str
    histogram_sizes: tuple[int, ...]


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
        identity = Identity(
            model=counted.model,
            version=counted.version,
            bundle=counted.bundle,
            reference=counted.reference,
            window_start_s=start_s,
            window_s=self.window_s,
            boot=self.boot,
            incarnation=self.incarnation if again == 1 else f"{self.incarnation}.{again}",
            histogram_sizes=counted.histogram_sizes,
        )
        file = CounterFile.create(self.directory, self.files, identity)
        self.files += 1
        self.uses[key] = again
        self._forget_old_uses(start_s)
        return file

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
        self.uncounted = 0
        """Requests that were answered without being counted because no counter file could be made (disk full)."""

    def record(self, now_s: float, *, latency_us: int, rows: int, failed: bool, observed: NDArray[Any] | None) -> None:
        """Count one request. Call before its response is written, so that acknowledged <= counted."""
        file = self._current(now_s)
        if file is None:
            self.uncounted += 1  # serving goes before counting: a full disk must not stop a device
            return
        with file.update():
            file.count(latency_us=latency_us, rows=rows, failed=failed)
            if observed is not None and self._histograms is not None:
                self._histograms += observed

    def tick(self, now_s: float) -> None:
        """Close the file of a window that is over."""
        if self._file is not None and self._start_of(now_s) != self._window_start_s:
            self.close()

    def close(self) -> None:
        """Close the current file. A later request opens the next one."""
        if self._file is not None:
            self._histograms = None
            self._file.close()
            self._file = None

    def _start_of(self, now_s: float) -> int:
        return int(now_s // self._store.window_s) * self._store.window_s

    def _current(self, now_s: float) -> CounterFile | None:
        start_s = self._start_of(now_s)
        if self._file is not None and start_s == self._window_start_s:
            return self._file
        self.close()
        try:
            self._file = self._store.create(self._counted, start_s)
        except CounterFileError as error:
            if self.uncounted == 0:
                _log.error("requests of %s are answered but not counted: %s", self._counted.model, error)
            return None
        self._window_start_s = start_s
        self._histograms = (
            np.frombuffer(self._file.histogram_cells, np.uint64) if self._counted.histogram_sizes else None
        )
        return self._file
