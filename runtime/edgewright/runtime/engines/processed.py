"""An engine's instance with the bundle's steps around it: everything outside sees the client's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.bundle.manifest import Manifest

from .catalog import engine_for
from .protocol import Instance, LoadOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewright.bundle.processing import Processing


class ProcessedInstance:
    """An `Instance` that takes what comes before the steps and gives what comes after them."""

    def __init__(self, inner: Instance, processing: Processing) -> None:
        self._inner, self._processing = inner, processing

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the steps before, the model, the steps after."""
        return self._processing.after(self._inner.run(self._processing.before(inputs)))

    def close(self) -> None:
        self._inner.close()


def load_with_steps(directory: Path, manifest: Manifest, options: LoadOptions) -> Instance:
    """Load the model of an unpacked bundle in its engine, with its steps where it has some.

    Raises:
        ModelRefused: the engine cannot load it, or it does not fit its manifest.
        EngineMissing: the engine is not on this machine.
        ProcessingError: the steps do not fit.
    """
    if not (manifest.preprocess or manifest.postprocess):
        return engine_for(manifest).load(directory, manifest, options)
    # Memory: numpy code of the steps, where a bundle has some.
    from edgewright.bundle.processing import model_manifest, pipeline_of

    processing = pipeline_of(manifest)  # refuses what does not fit before an engine takes memory
    inner = engine_for(manifest).load(directory, model_manifest(manifest), options)
    return inner if processing is None else ProcessedInstance(inner, processing)
