"""Everything that can be wrong with a bundle: one class each, so that callers can tell them apart.

BundleError (UserFault, exit 2)            the bytes are wrong
├── NotABundleError                        nothing here looks like a bundle at all
├── TruncatedError                         the archive ends too early
├── TrailingDataError                      something follows the end of the archive
├── DamagedHeaderError                     an entry's header fails its own checksum or cannot be parsed
├── NotCanonicalError                      a readable tar or manifest, but not in the one form that a bundle has
├── EntryTypeError                         a link, a device, a directory entry: only regular files are allowed
├── UnsafePathError                        an absolute path, `..`, or a name that the format does not allow
├── DuplicateEntryError                    the same path twice
├── MissingEntryError / ExtraEntryError    files and manifest do not name the same paths
├── SizeMismatchError / DigestMismatchError  a file is not the one that the manifest describes
├── TooLargeError / TooManyEntriesError    beyond the limits that the reader was given
├── UnsupportedFormatError                 a format version that this code does not read
├── ManifestError                          manifest.json is not JSON, or not a manifest
│   ├── ManifestDuplicateKeyError
│   └── ManifestTooDeepError
├── GoldenError                            golden.safetensors cannot be used
├── DriftReferenceError                    reference.cbor cannot be used
└── DestinationExistsError                 unpack would overwrite something
StorageFault (EnvironmentFault, exit 5)    the disk is full, read-only, or fails
"""

from __future__ import annotations

from edgewright.targets.faults import EnvironmentFault, UserFault

MAX_MESSAGE_CHARACTERS = 800


class BundleError(UserFault):
    """The bundle is not usable; the message says what was expected, what is there, and where.

    Messages quote the bundle, so whatever could rewrite a terminal or forge a log line is escaped.
    """

    def __init__(self, message: str) -> None:
        shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in message)
        cut = shown if len(shown) <= MAX_MESSAGE_CHARACTERS else f"{shown[:MAX_MESSAGE_CHARACTERS]}…"
        super().__init__(cut)


class NotABundleError(BundleError):
    """Nothing here looks like a bundle."""


class TruncatedError(BundleError):
    """The archive ends before it should."""


class TrailingDataError(BundleError):
    """Bytes follow the end of the archive."""


class DamagedHeaderError(BundleError):
    """An archive header fails its checksum or cannot be parsed."""


class NotCanonicalError(BundleError):
    """Readable, but not in the one byte form that a bundle has."""


class EntryTypeError(BundleError):
    """An entry that is not a regular file."""


class UnsafePathError(BundleError):
    """A path that escapes, is absolute, or has characters outside the allowed set."""


class DuplicateEntryError(BundleError):
    """Two entries have the same path."""


class MissingEntryError(BundleError):
    """The manifest or the format names a file that is not there."""


class ExtraEntryError(BundleError):
    """A file that the manifest does not name."""


class SizeMismatchError(BundleError):
    """A file's size is not the one in the manifest."""


class DigestMismatchError(BundleError):
    """A file's or the archive's SHA-256 is not the expected one."""


class TooLargeError(BundleError):
    """Larger than the reader's limits allow."""


class TooManyEntriesError(BundleError):
    """More entries than the reader's limits allow."""


class UnsupportedFormatError(BundleError):
    """The format version is newer or older than what this code reads."""


class ManifestError(BundleError):
    """manifest.json is not valid JSON or not a valid manifest."""


class ManifestDuplicateKeyError(ManifestError):
    """An object in manifest.json has the same key twice."""


class ManifestTooDeepError(ManifestError):
    """manifest.json is nested deeper than any manifest."""


class GoldenError(BundleError):
    """golden.safetensors cannot be used as a self-test."""


class DriftReferenceError(BundleError):
    """reference.cbor cannot be used as a drift reference."""


class DestinationExistsError(BundleError):
    """The place to unpack to is taken."""


class StorageFault(EnvironmentFault):
    """Reading or writing failed for a reason that is this machine's: full, read-only, no permission, defective."""
