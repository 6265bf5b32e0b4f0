"""Models that are machine code: `model/model.so`, made by our compiler, called in place (docs/formats/native.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edgewright.bundle.manifest import Manifest
from edgewright.bundle.native_call import NativeInstance
from edgewright.bundle.native_library import ABI
from edgewright.bundle.native_threads import useful_threads

from .native_ports import check_ports
from .protocol import LoadOptions, ModelRefused
from .verified_file import Processor, this_processor
from .verified_library import load_verified

_log = logging.getLogger(__name__)


class Native:
    """The engine `native`. Options: threads."""

    name = "native"

    def __init__(self, processor: Callable[[], Processor] = this_processor) -> None:
        self._processor = processor

    def version(self) -> str:
        """Returns the ABI that is called here."""
        return str(ABI)

    def load(self, directory: Path, manifest: Manifest, options: LoadOptions) -> NativeInstance:
        """Loads the library (see `protocol.Engine`). Threads change nothing where it has no calls to share."""
        asked = _threads(manifest)
        wanted = options.threads or asked
        library = load_verified(directory, manifest, self._processor())
        try:
            threads = useful_threads(library, wanted)
            if threads < min(wanted, max(entry.max_parts for entry in library.entries)):
                _log.warning("%s: %d threads are wanted, %d have a core", manifest.model, wanted, threads)
            return NativeInstance(library, check_ports(manifest, library.entries), threads)
        except BaseException:
            library.close()
            raise


def _threads(manifest: Manifest) -> int:
    """The manifest's `threads`; one where it says nothing.

    Raises:
        ModelRefused: it says something else, or what no number of threads can be.
    """
    for name, value in manifest.engine.options.items():
        if name != "threads":
            raise ModelRefused(f"{manifest.model}: engine native has no option {name!r}")
        if type(value) is not int or value < 1:
            raise ModelRefused(f"{manifest.model}: option threads of engine native is {value!r}, expected 1 or more")
        return value
    return 1


ENGINE = Native()
