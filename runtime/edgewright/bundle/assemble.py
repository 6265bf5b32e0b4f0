"""Turn a directory of files into a bundle directory: write its manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from .files import write_atomically
from .folder import list_files, read_chunks
from .manifest import Entry, Manifest
from .manifest_json import decode_manifest, encode_manifest
from .paths import MANIFEST


def write_manifest(directory: Path, manifest: Manifest) -> Manifest:
    """Fill in `entries` from the files in the directory, check the whole as a reader would, write manifest.json."""
    entries = tuple(
        _describe(directory, path, size_bytes) for path, size_bytes in list_files(directory).items() if path != MANIFEST
    )
    data = encode_manifest(msgspec.structs.replace(manifest, entries=entries))
    complete = decode_manifest(data)
    write_atomically(directory / MANIFEST, data)
    return complete


def _describe(directory: Path, path: str, size_bytes: int) -> Entry:
    digest = hashlib.sha256()
    for chunk in read_chunks(directory, path):
        digest.update(chunk)
    return Entry(path=path, size_bytes=size_bytes, sha256=digest.hexdigest())
