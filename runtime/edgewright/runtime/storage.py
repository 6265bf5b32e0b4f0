"""Every file operation that the agent's safety rests on, behind one interface.

`LocalStorage` is the disk; `memory_storage.MemoryStorage` is the stand-in that cuts the power after any operation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from edgewright.bundle.filesystem import Filesystem, LocalFilesystem

CHUNK_BYTES = 256 * 1024


class Storage(Filesystem, Protocol):
    """What the agent does to a disk, beyond what unpacking a bundle does. Every method may raise OSError."""

    def exists(self, path: Path) -> bool:
        """Whether the path names a file or a directory."""

    def names(self, path: Path) -> tuple[str, ...]:
        """Return the sorted names in a directory; none where there is no directory."""

    def size_bytes(self, path: Path) -> int:
        """Return the length of a file."""

    def read(self, path: Path) -> bytes:
        """Return the content of a file."""

    def chunks(self, path: Path) -> Iterator[bytes]:
        """Yield the content of a file that may be large."""

    def write(self, path: Path, content: bytes) -> None:
        """Create or overwrite a file. Neither atomic nor durable: see `replace_file`."""

    def append(self, path: Path, content: bytes) -> None:
        """Add to the end of a file, which is created where it is missing. Not durable."""

    def truncate(self, path: Path, size_bytes: int) -> None:
        """Cut a file to a length. Not durable."""

    def sync_path(self, path: Path) -> None:
        """Return when the content of the file is on the medium."""

    def remove(self, path: Path) -> None:
        """Remove a file. Not durable."""


def replace_file(storage: Storage, path: Path, content: bytes) -> None:
    """Give a file new content, durably: after a power cut it has the old content or the new one, never a part."""
    draft = path.with_name(f".{path.name}.draft")
    storage.write(draft, content)
    storage.sync_path(draft)
    storage.rename(draft, path)
    storage.sync_directory(path.parent)


def ensure_directory(storage: Storage, path: Path) -> None:
    """Make a directory and its parents, durably, where they are missing."""
    if storage.exists(path):
        return
    ensure_directory(storage, path.parent)
    storage.make_directory(path)
    storage.sync_directory(path.parent)


class LocalStorage(LocalFilesystem):
    """The real disk."""

    def exists(self, path: Path) -> bool:
        return path.exists()

    def names(self, path: Path) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(path)))  # noqa: PTH208 - names only, no Path objects
        except FileNotFoundError:
            return ()

    def size_bytes(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def chunks(self, path: Path) -> Iterator[bytes]:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

    def append(self, path: Path, content: bytes) -> None:
        with path.open("ab", buffering=0) as file:
            written = file.write(content)
        if written != len(content):
            raise OSError(f"{path}: wrote {written} of {len(content)} bytes")

    def truncate(self, path: Path, size_bytes: int) -> None:
        os.truncate(path, size_bytes)

    def sync_path(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        path.unlink()
