"""The agent's log: standard error, and a file of bounded size in the state directory."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from pathlib import Path

MAX_LOG_BYTES = 1024 * 1024


class BoundedLogFile(logging.Handler):
    """Appends lines to a file; a full one becomes `<name>.1`, and the one before that goes."""

    def __init__(self, path: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
        super().__init__()
        self._path = path
        self._max_bytes = max_bytes

    def emit(self, record: logging.LogRecord) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(self.format(record) + "\n")
                full = file.tell() > self._max_bytes
            if full:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
        except OSError:  # a full disk: the line is on standard error, and the device serves on
            return


def bound_log(path: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
    """Cut a log that another process appends to: a long one is copied to `<name>.1` and begins anew."""
    try:
        if path.stat().st_size <= max_bytes:
            return
        with path.open("rb+") as file:
            file.seek(-max_bytes, os.SEEK_END)
            path.with_name(path.name + ".1").write_bytes(file.read(max_bytes))
            file.truncate(0)
    except OSError:  # no log yet, or a full disk: then the log is cut without a copy, to make room
        with contextlib.suppress(OSError):
            os.truncate(path, 0)


def start_logging(path: Path) -> None:
    """Send the log of this process to standard error and to a file."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in (logging.StreamHandler(sys.stderr), BoundedLogFile(path)):
        handler.setFormatter(formatter)
        root.addHandler(handler)
