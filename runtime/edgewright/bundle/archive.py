"""Pack, read, verify and unpack bundles. Everything streams: a bundle of gigabytes needs a quarter of a megabyte.

    directory  --pack-->  archive  --unpack-->  directory

A bundle is accepted whole or not at all: `unpack` writes into a hidden sibling, checks every digest on the
way, and renames it into place last. After a power cut a `.NAME.partial` may be left; the next `unpack` removes it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .contents import inspected
from .errors import DestinationExistsError, DigestMismatchError, ExtraEntryError, MissingEntryError, SizeMismatchError
from .files import new_file, open_regular, read_bounded, storage_faults
from .filesystem import LOCAL, Filesystem
from .folder import list_files, read_chunks
from .manifest import Entry, Manifest
from .manifest_json import decode_manifest
from .paths import MANIFEST
from .stream import CHUNK_BYTES, DEFAULT_LIMITS, ArchiveStream, Limits, check_digest
from .ustar import END, encode_header, padding


def pack(directory: Path, archive_path: Path) -> str:
    """Write the archive of a bundle directory, checking it on the way; returns the archive's `sha256:…`."""
    manifest = read_manifest(directory)
    _check_listing(directory, manifest)
    manifest_bytes = read_bounded(directory / MANIFEST, DEFAULT_LIMITS.manifest_bytes)
    digest = hashlib.sha256()
    with new_file(archive_path) as file:
        for data in _archive_chunks(directory, manifest, manifest_bytes):
            digest.update(data)
            file.write(data)
    return f"sha256:{digest.hexdigest()}"


def _archive_chunks(directory: Path, manifest: Manifest, manifest_bytes: bytes) -> Iterator[bytes]:
    yield encode_header(MANIFEST, len(manifest_bytes)) + manifest_bytes + bytes(padding(len(manifest_bytes)))
    for entry in manifest.entries:
        yield encode_header(entry.path, entry.size_bytes)
        yield from inspected(entry, _folder_content(directory, entry))
        yield bytes(padding(entry.size_bytes))
    yield END


def read_manifest(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> Manifest:
    """The manifest of an archive or a bundle directory; nothing else is read."""
    if path.is_dir():
        return decode_manifest(read_bounded(path / MANIFEST, limits.manifest_bytes))
    with open_regular(path, follow_links=True) as file, storage_faults(f"reading {path}"):
        return ArchiveStream(file, limits).manifest()


def verify(path: Path, *, limits: Limits = DEFAULT_LIMITS, expected_digest: str | None = None) -> Manifest:
    """Check every byte of an archive or a bundle directory.

    Args:
        path: the archive, or the directory.
        limits: the most that is accepted.
        expected_digest: the archive's `sha256:…` where it is known from elsewhere (not for directories).

    Raises:
        BundleError: one of its kinds says what is wrong.
        StorageFault: this machine cannot read it.
    """
    if path.is_dir():
        return _verify_directory(path, limits)
    return verify_archive(path, limits=limits, expected_digest=expected_digest)[0]


def verify_archive(
    path: Path, *, limits: Limits = DEFAULT_LIMITS, expected_digest: str | None = None
) -> tuple[Manifest, str]:
    """As `verify`, for an archive; returns its digest too, taken in the same pass."""
    with open_regular(path, follow_links=True) as file, storage_faults(f"reading {path}"):
        stream = ArchiveStream(file, limits)
        manifest = stream.manifest()
        for entry in manifest.entries:
            for _ in inspected(entry, stream.content(entry)):
                pass
        stream.finish()
    _check_archive_digest(stream.digest, expected_digest)
    return manifest, stream.digest


def _verify_directory(directory: Path, limits: Limits) -> Manifest:
    manifest = read_manifest(directory, limits=limits)
    _check_listing(directory, manifest)
    for entry in manifest.entries:
        for _ in inspected(entry, _folder_content(directory, entry)):
            pass
    return manifest


def _check_listing(directory: Path, manifest: Manifest) -> None:
    found = list_files(directory)
    expected = {entry.path: entry.size_bytes for entry in manifest.entries}
    for path in expected.keys() - found.keys():
        raise MissingEntryError(f"bundle: the manifest names {path}, but {directory} has no such file.")
    for path in found.keys() - expected.keys() - {MANIFEST}:
        raise ExtraEntryError(f"bundle: {directory} has {path}, which the manifest does not name.")
    for path, size_bytes in expected.items():
        if found[path] != size_bytes:
            raise SizeMismatchError(f"bundle: {path} has {found[path]} bytes, {size_bytes} by the manifest.")


def _folder_content(directory: Path, entry: Entry) -> Iterator[bytes]:
    content_hash = hashlib.sha256()
    size_bytes = 0
    for chunk in read_chunks(directory, entry.path):
        size_bytes += len(chunk)
        if size_bytes > entry.size_bytes:
            break
        content_hash.update(chunk)
        yield chunk
    if size_bytes != entry.size_bytes:
        raise SizeMismatchError(
            f"bundle: {entry.path} is not of {entry.size_bytes} bytes any more: it is being changed."
        )
    check_digest(entry.path, content_hash.hexdigest(), entry.sha256)


def unpack(
    archive: Path,
    destination: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    expected_digest: str | None = None,
    filesystem: Filesystem = LOCAL,
) -> Manifest:
    """Verify an archive and write it to `destination`, which appears complete and synced, or not at all.

    Args:
        archive: the archive file.
        destination: a directory that does not exist; its parent does.
        limits: the most that is accepted.
        expected_digest: the archive's `sha256:…` where it is known from elsewhere.
        filesystem: where to write.

    Raises:
        BundleError: one of its kinds says what is wrong with the archive.
        DestinationExistsError: the destination is taken.
        StorageFault: this machine cannot read or write it (a full disk, for example).
    """
    if os.path.lexists(destination):
        raise DestinationExistsError(f"bundle: {destination} exists already; choose another place or remove it first.")
    with open_regular(archive, follow_links=True) as file, storage_faults(f"unpacking {archive} to {destination}"):
        stream = ArchiveStream(file, limits)
        manifest = stream.manifest()
        partial = destination.parent / f".{destination.name}.partial"
        if os.path.lexists(partial):
            filesystem.remove_tree(partial)
        _fill(stream, manifest, partial, destination, expected_digest, filesystem)
    return manifest


def _fill(
    stream: ArchiveStream,
    manifest: Manifest,
    partial: Path,
    destination: Path,
    expected_digest: str | None,
    filesystem: Filesystem,
) -> None:
    renamed = False
    try:
        filesystem.make_directory(partial)
        _write_files(stream, manifest, partial, filesystem)
        stream.finish()
        _check_archive_digest(stream.digest, expected_digest)
        filesystem.rename(partial, destination)
        renamed = True
        filesystem.sync_directory(destination.parent)
    except BaseException:  # whatever stopped us, Ctrl-C too: nothing may stay
        if renamed:
            filesystem.rename(destination, partial)
        if os.path.lexists(partial):
            filesystem.remove_tree(partial)
        raise


def _write_files(stream: ArchiveStream, manifest: Manifest, root: Path, filesystem: Filesystem) -> None:
    folders = {parent for entry in manifest.entries for parent in PurePosixPath(entry.path).parents}
    for folder in sorted(folders):
        if folder.parts:
            filesystem.make_directory(root / folder)
    _write_file(root / MANIFEST, iter([stream.manifest_bytes]), filesystem)
    for entry in manifest.entries:
        _write_file(root / entry.path, inspected(entry, stream.content(entry)), filesystem)
    for folder in sorted(folders, reverse=True):
        filesystem.sync_directory(root / folder)


def _write_file(path: Path, chunks: Iterator[bytes], filesystem: Filesystem) -> None:
    with filesystem.create(path) as file:
        for chunk in chunks:
            _write_all(file, chunk)
        filesystem.sync_file(file)


def _write_all(file: BinaryIO, data: bytes) -> None:
    """A raw file may take a part of the bytes when the disk is nearly full."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def archive_digest(path: Path) -> str:
    """`sha256:…` of a file's bytes. Says nothing about whether they are a bundle: see `verify`."""
    digest = hashlib.sha256()
    with open_regular(path, follow_links=True) as file, storage_faults(f"reading {path}"):
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _check_archive_digest(got: str, expected: str | None) -> None:
    """Compare the archive's digest with the one that was asked for, if one was."""
    if expected is not None and got != expected:
        raise DigestMismatchError(
            f"bundle: this archive is {got}, expected {expected}: it is another bundle, or damaged."
        )
