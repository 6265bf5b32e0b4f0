"""The stand-in for `Filesystem`: a real directory behind a disk that fills up, fails, or loses power on request."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

from .filesystem import LOCAL


class PowerCutError(BaseException):
    """The machine went off. Not an `Exception`: no code of the machine gets to handle it."""


class FaultyFilesystem:
    """Every operation, and every write to a file, counts as one step.

    Args:
        capacity_bytes: the disk is full after this many bytes; a write takes what fits and then fails, as on Linux.
        fail_at: this step (from 1) fails with EIO; later ones work.
        power_cut_at: at this step the power goes, and with it every later step: not even cleaning up is possible.
    """

    def __init__(
        self, *, capacity_bytes: int | None = None, fail_at: int | None = None, power_cut_at: int | None = None
    ) -> None:
        self.steps = 0
        self.log: list[tuple[str, str]] = []
        """Every finished operation but writes: its name, and the last part of the path."""
        self._free_bytes = capacity_bytes
        self._fail_at = fail_at
        self._power_cut_at = power_cut_at

    def make_directory(self, path: Path) -> None:
        self._step()
        LOCAL.make_directory(path)
        self.log.append(("make_directory", path.name))

    def create(self, path: Path) -> BinaryIO:
        self._step()
        file = cast("BinaryIO", _FaultyFile(LOCAL.create(path), self, path.name))
        self.log.append(("create", path.name))
        return file

    def sync_file(self, file: BinaryIO) -> None:
        self._step()
        LOCAL.sync_file(file)
        self.log.append(("sync_file", file.name))

    def sync_directory(self, path: Path) -> None:
        self._step()
        LOCAL.sync_directory(path)
        self.log.append(("sync_directory", path.name))

    def rename(self, source: Path, destination: Path) -> None:
        self._step()
        LOCAL.rename(source, destination)
        self.log.append(("rename", destination.name))

    def remove_tree(self, path: Path) -> None:
        self._step()
        LOCAL.remove_tree(path)
        self.log.append(("remove_tree", path.name))

    def take(self, size_bytes: int) -> int:
        """How many of these bytes still fit."""
        self._step()
        if self._free_bytes is None:
            return size_bytes
        taken = min(size_bytes, self._free_bytes)
        self._free_bytes -= taken
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return taken

    def _step(self) -> None:
        self.steps += 1
        if self._power_cut_at is not None and self.steps >= self._power_cut_at:
            raise PowerCutError
        if self.steps == self._fail_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class _FaultyFile(io.RawIOBase):
    """A file on a faulty disk."""

    def __init__(self, file: BinaryIO, disk: FaultyFilesystem, name: str) -> None:
        self.name = name
        self._file = file
        self._disk = disk

    def write(self, data: Any) -> int:
        view = memoryview(data)
        return self._file.write(view[: self._disk.take(len(view))])

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()
