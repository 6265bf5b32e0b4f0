"""Which paths a bundle may contain. Pure; the archive, the manifest and the directory reader share these rules."""

from __future__ import annotations

import re

from .errors import UnsafePathError

MANIFEST = "manifest.json"
GOLDEN = "golden.safetensors"
REFERENCE = "reference.cbor"
SBOM = "sbom.cdx.json"
MODEL_PREFIX = "model/"
REQUIRED = (GOLDEN, REFERENCE, SBOM)

MAX_PATH_BYTES = 100
"""The size of the name field of a ustar header: no extension headers are ever needed."""

MAX_DEPTH = 8

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def check_path(path: str) -> str:
    """Return `path` if a bundle may contain it.

    Raises:
        UnsafePathError: it is absolute, climbs, is too long, or uses other characters than A-Z a-z 0-9 . _ + - and /.
    """
    segments = path.split("/")
    allowed = len(path) <= MAX_PATH_BYTES and len(segments) <= MAX_DEPTH
    if allowed and all(_SEGMENT.fullmatch(segment) for segment in segments):
        return path
    raise UnsafePathError(
        f"bundle: the entry path {path[:120]!r} is not allowed: expected at most {MAX_PATH_BYTES} characters in "
        f"at most {MAX_DEPTH} parts of A-Z a-z 0-9 . _ + -, none of them empty or starting with a dot. "
        "Do not use this bundle."
    )


def archive_order(path: str) -> tuple[bool, bytes]:
    """Sort key of the entries: the manifest first, so that a reader can refuse before it has read the rest."""
    return (path != MANIFEST, path.encode())
