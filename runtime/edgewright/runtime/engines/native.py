"""Models that are machine code: `model/model.so`, made by our compiler, called in place (docs/formats/native.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgewright.bundle.manifest import Manifest
from edgewright.bundle.native_call import NativeInstance
from edgewright.bundle.native_library import ABI

from .native_ports import check_ports
from .protocol import LoadOptions, ModelRefused
from .verified_library import Processor, load_verified, this_processor


class Native:
    """The engine `native`. It has no options."""

    name = "native"

    def __init__(self, processor: Callable[[], Processor] = this_processor) -> None:
        self._processor = processor

    def version(self) -> str:
        """Returns the ABI that is called here."""
        return str(ABI)

    def load(self, directory: Path, manifest: Manifest, options: LoadOptions) -> NativeInstance:
        """Loads the library (see `protocol.Engine`). `options.threads` changes nothing: a call is one thread."""
        del options
        if manifest.engine.options:
            raise ModelRefused(f"{manifest.model}: engine native has no option {min(manifest.engine.options)!r}")
        library = load_verified(directory, manifest, self._processor())
        try:
            return NativeInstance(library, check_ports(manifest, library.entries))
        except BaseException:
            library.close()
            raise


ENGINE = Native()
