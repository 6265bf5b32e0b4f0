"""Bundle archives as files named by their SHA-256. A file that is there is complete and was verified."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .faults import FleetUnavailable, NotFoundError, TooLargeError

MAX_ARTIFACT_BYTES = 2 * 1024**3
_HEX = re.compile(r"[0-9a-f]{64}\Z")


class Upload:
    """An archive on its way in: a temporary file in the store's directory, gone unless it is kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        descriptor, name = tempfile.mkstemp(prefix=".upload-", dir=directory)
        self.path = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Add bytes.

        Raises:
            TooLargeError: more than the fleet takes.
            FleetUnavailable: the disk is full or broken.
        """
        self.size_bytes += len(chunk)
        self.announce(self.size_bytes)
        self._hash.update(chunk)
        with _disk_trouble():
            self._file.write(chunk)

    @staticmethod
    def announce(size_bytes: int) -> None:
        """Refuse an archive by its announced size, before its bytes come.

        Raises:
            TooLargeError: more than the fleet takes.
        """
        if size_bytes > MAX_ARTIFACT_BYTES:
            raise TooLargeError(f"the archive is larger than {MAX_ARTIFACT_BYTES} bytes, the most this fleet takes")

    def finish(self) -> str:
        """Put all bytes on disk and return their digest.

        Raises:
            FleetUnavailable: the disk is full or broken.
        """
        with _disk_trouble():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return "sha256:" + self._hash.hexdigest()

    def keep(self, digest: str) -> Path:
        """Give the file its name; it is there for good afterwards."""
        path = self._directory / digest.removeprefix("sha256:")
        self.path.replace(path)
        _sync_directory(self._directory)
        return path

    def discard(self) -> None:
        """Remove what was not kept; does nothing after `keep`."""
        with contextlib.suppress(OSError):  # a full disk refuses the last buffer: it is not wanted any more
            self._file.close()
        self.path.unlink(missing_ok=True)


class Artifacts:
    """The directory of archives."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            for left_over in directory.glob(".upload-*"):  # of a server that was killed
                left_over.unlink()
        except OSError as error:
            raise FleetUnavailable(f"{directory}: {error.strerror or error}; the fleet keeps bundles there") from error
        self._directory = directory

    def begin(self) -> Upload:
        """Start an upload; the caller keeps or discards it."""
        return Upload(self._directory)

    def put(self, chunks: Iterable[bytes]) -> str:
        """Store bytes whole, as they are, and return their digest. The caller has verified them."""
        upload = self.begin()
        try:
            for chunk in chunks:
                upload.write(chunk)
            digest = upload.finish()
            upload.keep(digest)
        finally:
            upload.discard()
        return digest

    def path(self, digest: str) -> Path:
        """Return the file of a digest (`sha256:…` or its hex part).

        Raises:
            NotFoundError: it is not a digest, or there is no such file.
        """
        name = digest.removeprefix("sha256:")
        if not _HEX.match(name):
            raise NotFoundError(f"{name[:80]!r} is not a SHA-256 in hex")
        path = self._directory / name
        if not path.is_file():
            raise NotFoundError(f"no artifact {name}")
        return path


@contextlib.contextmanager
def _disk_trouble() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FleetUnavailable(f"the fleet cannot store the archive: {error.strerror or error}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
