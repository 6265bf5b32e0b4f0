"""Read and write single files with care: bounded, no links, no half-written file; a disk fault is not bad data."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import EntryTypeError, NotABundleError, StorageFault, TooLargeError


@contextmanager
def storage_faults(doing: str) -> Iterator[None]:
    """Turn an OSError inside into a `StorageFault` that says what was being done."""
    try:
        yield
    except OSError as error:
        raise StorageFault(
            f"{doing} failed: {error.strerror or error}. Free space or fix the disk, then try again."
        ) from error


@contextmanager
def open_regular(path: Path, *, follow_links: bool = False) -> Iterator[BinaryIO]:
    """Open a regular file for reading; refuse links (unless allowed), pipes and devices without blocking on them."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotABundleError(f"bundle: {path} does not exist.") from error
    except OSError as error:
        if path.is_symlink() and not follow_links:
            raise EntryTypeError(f"bundle: {path} is a symbolic link; only regular files are allowed.") from error
        raise StorageFault(f"bundle: cannot open {path}: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise EntryTypeError(f"bundle: {path} is not a regular file.")
        yield file


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`."""
    with open_regular(path) as file, storage_faults(f"reading {path}"):
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TooLargeError(f"bundle: {path} has more than {max_bytes} bytes.")
    return data


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when the block ends well; on any failure nothing is left."""
    with storage_faults(f"writing {path}"):
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:  # a Ctrl-C must not leave the temporary file either
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or none."""
    with new_file(path) as file:
        file.write(data)


def sync_directory(path: Path) -> None:
    """Return when the names in this directory are on the medium."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
