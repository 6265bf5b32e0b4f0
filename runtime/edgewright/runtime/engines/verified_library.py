"""The library of a native bundle, loaded only if it may be (see `verified_file`)."""

from __future__ import annotations

from pathlib import Path

from edgewright.bundle.manifest import Manifest
from edgewright.bundle.native_library import NativeLibrary, NativeLibraryError

from .protocol import ModelRefused
from .verified_file import MODEL_FILE, Processor, VerifiedFile, check_processor, open_verified


def load_verified(directory: Path, manifest: Manifest, processor: Processor) -> NativeLibrary:
    """Load the library of an unpacked bundle.

    Raises:
        ModelRefused: it is not the file that the manifest names, not a compiled model, or not for this processor.
    """
    check_processor(manifest, processor, manifest.target.isa)
    with open_verified(directory, manifest) as file:
        library = _load(file, manifest.model)
    try:
        # The manifest's features are a promise of the whole bundle; these are what the code was compiled with.
        check_processor(manifest, processor, library.isa)
    except BaseException:
        library.close()
        raise
    return library


def _load(file: VerifiedFile, model: str) -> NativeLibrary:
    try:
        library = NativeLibrary(Path(MODEL_FILE), file.descriptor)
    except NativeLibraryError as error:
        raise ModelRefused(f"{model}: {error}{file.hint()}") from error
    try:
        file.check_unchanged()
    except BaseException:
        library.close()
        raise
    return library
