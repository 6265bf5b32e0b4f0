"""manifest.json: from bytes to `Manifest` and back, in one canonical form.

Canonical: UTF-8, keys sorted, two spaces of indentation, one newline at the end, numbers as Python writes them. The
reader refuses every other spelling of the same content, so a bundle has one byte form.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

import msgspec

from .errors import (
    DuplicateEntryError,
    ManifestDuplicateKeyError,
    ManifestError,
    ManifestTooDeepError,
    MissingEntryError,
    NotCanonicalError,
    TooManyEntriesError,
    UnsupportedFormatError,
)
from .manifest import FORMAT_VERSION, OLDEST_READABLE_VERSION, Manifest
from .manifest_state import check_state
from .paths import MANIFEST, MODEL_PREFIX, REQUIRED, check_path
from .strict_json import DuplicateKeyError, StrictJsonError, TooDeepError, parse_json

MAX_DEPTH = 16
"""Nesting of brackets; a manifest needs six."""

MAX_ENTRIES = 256
"""Files in a bundle beside the manifest."""

KEYS_OF_VERSION_2 = ("model_inputs", "model_outputs", "state")
EMPTY_IN_VERSION_1 = ("preprocess", "postprocess")
"""Version 1 reserved them for records that no compiler ever wrote."""


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest.

    Raises:
        ManifestError: a value cannot be in a manifest (NaN, for example).
    """
    try:
        plain = _in_its_version(msgspec.to_builtins(manifest))
        text = json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except ValueError as error:
        raise ManifestError(f"manifest.json: cannot be written: {error}.") from error


def _in_its_version(plain: dict[str, Any]) -> dict[str, Any]:
    """The keys that this format version has.

    Raises:
        ManifestError: it says something that only a newer version can.
    """
    if plain["format_version"] != 1:
        return plain
    told = [key for key in (*KEYS_OF_VERSION_2, *EMPTY_IN_VERSION_1) if plain[key]]
    if told:
        raise ManifestError(f"manifest.json: `{told[0]}` needs format version 2; the manifest says version 1.")
    return {key: value for key, value in plain.items() if key not in KEYS_OF_VERSION_2}


def decode_manifest(data: bytes) -> Manifest:
    """Read and check a manifest.

    Raises:
        UnsupportedFormatError: another format version.
        ManifestError: not JSON, or not a manifest; with kinds for a duplicate key and for too deep nesting.
        NotCanonicalError: the same content in another spelling.
        UnsafePathError, DuplicateEntryError, MissingEntryError, TooManyEntriesError: the entries are unacceptable.
    """
    plain = _parse(data)
    _check_version(plain)
    _check_keys(plain)
    try:
        manifest = msgspec.convert(plain, Manifest, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ManifestError(f"manifest.json: {error}.") from error
    check_entries(manifest)
    check_state(manifest)
    if encode_manifest(manifest) != data:
        raise NotCanonicalError(
            "manifest.json: not in canonical form (sorted keys, two spaces of indentation, one newline at the end). "
            "Was it edited by hand? Build the bundle again."
        )
    return manifest


def check_entries(manifest: Manifest) -> None:
    """Check the list of files: allowed paths, each once, sorted, and none of the required ones absent."""
    if len(manifest.entries) > MAX_ENTRIES:
        raise TooManyEntriesError(
            f"manifest.json: {len(manifest.entries)} entries; a bundle has at most {MAX_ENTRIES}."
        )
    paths = [check_path(entry.path) for entry in manifest.entries]
    _check_distinct(paths)
    if paths != sorted(paths):
        raise NotCanonicalError("manifest.json: the entries are not sorted by path.")
    missing = [path for path in REQUIRED if path not in paths]
    if not any(path.startswith(MODEL_PREFIX) for path in paths):
        missing.append(MODEL_PREFIX)
    if missing:
        raise MissingEntryError(f"manifest.json: the bundle has no {', '.join(missing)}; every bundle has these.")


def _check_distinct(paths: list[str]) -> None:
    taken = {MANIFEST}
    for path in paths:
        if path in taken:
            raise DuplicateEntryError(f"manifest.json: the entry {path} is listed twice or is the manifest itself.")
        taken.add(path)
    for parent in {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}:
        if parent in taken:
            raise DuplicateEntryError(f"manifest.json: {parent} is listed as a file and as a folder of other files.")


def _parse(data: bytes) -> Any:
    try:
        return parse_json(data, MAX_DEPTH)
    except DuplicateKeyError as error:
        raise ManifestDuplicateKeyError(f"manifest.json: {error}.") from error
    except TooDeepError as error:
        raise ManifestTooDeepError(f"manifest.json: {error}.") from error
    except StrictJsonError as error:
        raise ManifestError(f"manifest.json: {error}.") from error


def _check_version(plain: Any) -> None:
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if type(version) is not int:
        raise ManifestError("manifest.json: expected an object with an integer `format_version`.")
    if not OLDEST_READABLE_VERSION <= version <= FORMAT_VERSION:
        newer = version > FORMAT_VERSION
        advice = "update edgewright on this machine" if newer else "compile the model again with this version"
        raise UnsupportedFormatError(
            f"manifest.json: bundle format version {version}; this edgewright reads {OLDEST_READABLE_VERSION} to "
            f"{FORMAT_VERSION}: {advice}."
        )


def _check_keys(plain: dict[str, Any]) -> None:
    newer = [key for key in KEYS_OF_VERSION_2 if key in plain]
    if plain["format_version"] == 1 and newer:
        raise ManifestError(f"manifest.json: version 1 of the format has no key `{newer[0]}`; version 2 has.")
