"""Walk through an archive once, in bounded memory, checking every byte against the format and the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from .errors import (
    BundleError,
    DigestMismatchError,
    DuplicateEntryError,
    ExtraEntryError,
    MissingEntryError,
    NotABundleError,
    NotCanonicalError,
    SizeMismatchError,
    TooLargeError,
    TooManyEntriesError,
    TrailingDataError,
    TruncatedError,
)
from .manifest import Entry, Manifest
from .manifest_json import decode_manifest
from .paths import MANIFEST
from .ustar import BLOCK_BYTES, END, decode_header, is_ustar, padding

CHUNK_BYTES = 256 * 1024
_ZERO_BLOCK = bytes(BLOCK_BYTES)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a reader accepts."""

    archive_bytes: int = 8 << 30
    manifest_bytes: int = 1 << 20
    entries: int = 256


DEFAULT_LIMITS = Limits()


class ArchiveStream:
    """One pass over an archive: `manifest()`, then `content()` of each entry in the manifest's order, then `finish()`.

    Everything that was read has been hashed, so `digest` after `finish()` is that of exactly the bytes that were
    checked: there is no second look at the file that could see other bytes.
    """

    def __init__(self, file: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> None:
        self._file = file
        self._limits = limits
        self._hash = hashlib.sha256()
        self._offset = 0
        self._seen = [MANIFEST]
        self.manifest_bytes = b""

    @property
    def digest(self) -> str:
        """`sha256:…` of all bytes read so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def manifest(self) -> Manifest:
        """Read the first entry."""
        block = self._file.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES or block == _ZERO_BLOCK:
            raise NotABundleError(
                f"bundle: {len(block)} bytes with no entry: this is not a bundle, or it was cut at its very start."
            )
        if not is_ustar(block):
            raise NotABundleError("bundle: this is not an archive of edgewright: its first bytes are something else.")
        self._take(block)
        path, size_bytes = decode_header(block, 0)
        if path != MANIFEST:
            raise NotABundleError(
                f"bundle: expected {MANIFEST} as the first entry, got {path}. Not made by edgewright."
            )
        if size_bytes > self._limits.manifest_bytes:
            raise TooLargeError(
                f"bundle: {MANIFEST} claims {size_bytes} bytes; at most {self._limits.manifest_bytes} are read."
            )
        self.manifest_bytes = b"".join(self._chunks(MANIFEST, size_bytes))
        manifest = decode_manifest(self.manifest_bytes)
        self._check_limits(size_bytes, manifest)
        return manifest

    def content(self, expected: Entry) -> Iterator[bytes]:
        """The chunks of the next entry, which has to be `expected`; its digest is checked after the last chunk."""
        offset = self._offset
        block = self._read(BLOCK_BYTES, f"before {expected.path}")
        if block == _ZERO_BLOCK:
            raise MissingEntryError(f"bundle: the manifest names {expected.path}, but the archive ends before it.")
        path, size_bytes = decode_header(block, offset)
        self._check_is(path, expected)
        if size_bytes != expected.size_bytes:
            raise SizeMismatchError(
                f"bundle: {path} has {size_bytes} bytes in the archive, {expected.size_bytes} by the manifest."
            )
        content_hash = hashlib.sha256()
        for chunk in self._chunks(path, size_bytes):
            content_hash.update(chunk)
            yield chunk
        check_digest(path, content_hash.hexdigest(), expected.sha256)

    def finish(self) -> None:
        """Check that the archive ends here, in the one way that it may."""
        offset = self._offset
        block = self._read(BLOCK_BYTES, "at the end mark")
        if block != _ZERO_BLOCK:
            path, _ = decode_header(block, offset)
            raise self._unexpected(path)
        if self._read(len(END) - BLOCK_BYTES, "at the end mark") != _ZERO_BLOCK:
            raise NotCanonicalError(f"bundle: expected two zero blocks at byte {offset}, got one.")
        if self._file.read(1):
            raise TrailingDataError(
                f"bundle: the archive ends at byte {self._offset}, but more bytes follow. Fetch or pack it again."
            )

    def _check_limits(self, manifest_bytes: int, manifest: Manifest) -> None:
        if len(manifest.entries) > self._limits.entries:
            raise TooManyEntriesError(
                f"bundle: {len(manifest.entries)} entries; at most {self._limits.entries} are accepted here."
            )
        total = archive_bytes(manifest_bytes, manifest)
        if total > self._limits.archive_bytes:
            raise TooLargeError(
                f"bundle: {total} bytes in all; at most {self._limits.archive_bytes} are accepted here."
            )

    def _check_is(self, path: str, expected: Entry) -> None:
        if path < expected.path or path in self._seen:
            raise self._unexpected(path)
        if path > expected.path:
            raise MissingEntryError(f"bundle: the manifest names {expected.path}, but the archive goes on with {path}.")
        self._seen.append(path)

    def _unexpected(self, path: str) -> BundleError:
        if path in self._seen:
            return DuplicateEntryError(f"bundle: {path} is in the archive twice.")
        return ExtraEntryError(f"bundle: the archive has {path} where the manifest names no such file.")

    def _chunks(self, path: str, size_bytes: int) -> Iterator[bytes]:
        remaining = size_bytes
        while remaining:
            chunk = self._read(min(remaining, CHUNK_BYTES), f"inside {path}")
            remaining -= len(chunk)
            yield chunk
        pad = self._read(padding(size_bytes), f"after {path}")
        if pad.strip(b"\0"):
            raise NotCanonicalError(f"bundle: the bytes that fill up the last block of {path} are not zero.")

    def _read(self, size_bytes: int, where: str) -> bytes:
        data = self._file.read(size_bytes)
        self._take(data)
        if len(data) < size_bytes:
            raise TruncatedError(
                f"bundle: the archive ends at byte {self._offset}, {where}: the copy was cut. Fetch it again."
            )
        return data

    def _take(self, data: bytes) -> None:
        self._offset += len(data)
        self._hash.update(data)


def archive_bytes(manifest_bytes: int, manifest: Manifest) -> int:
    """Size of the archive of a bundle, known from the manifest alone."""
    sizes = [manifest_bytes, *(entry.size_bytes for entry in manifest.entries)]
    return sum(BLOCK_BYTES + size + padding(size) for size in sizes) + len(END)


def check_digest(path: str, got: str, expected: str) -> None:
    """Compare two SHA-256 in hexadecimal."""
    if got != expected:
        raise DigestMismatchError(
            f"bundle: {path} is damaged or was changed: expected sha256 {expected}, got {got}. Fetch the bundle again."
        )
