"""A bundle as a directory: which files it has, and their content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .errors import EntryTypeError, NotABundleError, TooManyEntriesError
from .files import open_regular, storage_faults
from .manifest_json import MAX_ENTRIES
from .paths import MAX_DEPTH, check_path

CHUNK_BYTES = 256 * 1024


def list_files(directory: Path) -> dict[str, int]:
    """Paths (relative, sorted) and sizes of the files in a directory; anything but files and folders is refused."""
    if not directory.is_dir():
        raise NotABundleError(f"bundle: {directory} is not a directory.")
    with storage_faults(f"listing {directory}"):
        found = dict(_walk(directory, "", 1))
    return {path: found[path] for path in sorted(found)}


def _walk(directory: Path, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
    with os.scandir(directory) as scan:
        entries = [entry for _, entry in zip(range(MAX_ENTRIES + 2), scan, strict=False)]
    if len(entries) > MAX_ENTRIES + 1:
        raise TooManyEntriesError(f"bundle: {directory} has more than {MAX_ENTRIES + 1} entries: not a bundle.")
    for entry in entries:
        path = check_path(prefix + entry.name)
        if entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
            yield from _walk(directory / entry.name, f"{path}/", depth + 1)
        elif entry.is_file(follow_symlinks=False):
            yield path, entry.stat(follow_symlinks=False).st_size
        else:
            raise EntryTypeError(f"bundle: {directory / entry.name} is neither a regular file nor a folder.")


def read_chunks(directory: Path, path: str) -> Iterator[bytes]:
    """The content of one file of the bundle, in pieces."""
    with open_regular(directory / path) as file:
        while True:
            with storage_faults(f"reading {directory / path}"):
                chunk = file.read(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk
