"""The few file operations that make a bundle appear on disk: one small interface, so that tests can fail each."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO, Protocol


class Filesystem(Protocol):
    """What `unpack` does to a disk. Every method may raise OSError."""

    def make_directory(self, path: Path) -> None:
        """Create one directory; its parent exists, it does not."""

    def create(self, path: Path) -> BinaryIO:
        """Open a new file for writing; it must not exist and is never a link."""

    def sync_file(self, file: BinaryIO) -> None:
        """Return when the content is on the medium."""

    def sync_directory(self, path: Path) -> None:
        """Return when the names in this directory are on the medium."""

    def rename(self, source: Path, destination: Path) -> None:
        """Move a directory to a name in the same parent, atomically."""

    def remove_tree(self, path: Path) -> None:
        """Remove a directory with all that is in it."""


class LocalFilesystem:
    """The real disk."""

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=0o755)

    def create(self, path: Path) -> BinaryIO:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        return os.fdopen(descriptor, "wb", buffering=0)

    def sync_file(self, file: BinaryIO) -> None:
        os.fsync(file.fileno())

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, destination: Path) -> None:
        source.rename(destination)

    def remove_tree(self, path: Path) -> None:
        shutil.rmtree(path)


LOCAL = LocalFilesystem()
