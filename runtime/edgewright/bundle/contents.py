"""Checks of the files that have a format of their own, made while their bytes pass by."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import TooLargeError
from .golden_header import HEAD_BYTES, MAX_GOLDEN_BYTES, read_golden_header
from .manifest import Entry
from .paths import GOLDEN, REFERENCE, SBOM
from .reference import MAX_REFERENCE_BYTES, decode_reference

MAX_SBOM_BYTES = 4 << 20

_MAX_BYTES = {GOLDEN: MAX_GOLDEN_BYTES, REFERENCE: MAX_REFERENCE_BYTES, SBOM: MAX_SBOM_BYTES}


def inspected(entry: Entry, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass chunks through; after the last one, check what the file has to be. Digest faults in `chunks` come first."""
    limit = _MAX_BYTES.get(entry.path)
    if limit is not None and entry.size_bytes > limit:
        raise TooLargeError(f"bundle: {entry.path} has {entry.size_bytes} bytes; at most {limit} are read.")
    kept = bytearray()
    keep_bytes = {GOLDEN: HEAD_BYTES, REFERENCE: MAX_REFERENCE_BYTES}.get(entry.path, 0)
    for chunk in chunks:
        kept += chunk[: keep_bytes - len(kept)]
        yield chunk
    if entry.path == GOLDEN:
        read_golden_header(bytes(kept), entry.size_bytes)
    elif entry.path == REFERENCE:
        decode_reference(bytes(kept))
