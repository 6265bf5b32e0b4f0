"""The steps of a manifest: what a device does before and after its engine, and the compiler to the data."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..manifest import Manifest
from ..tensor_spec import TensorSpec
from .bound import Array, ProcessingError
from .chain import Chain, Tensors


class Processing:
    """Bound steps on both sides of a model. Safe for any number of threads: nothing in it changes."""

    def __init__(self, before: Chain, after: Chain, manifest: Manifest) -> None:
        self._before, self._after = before, after
        self.model_inputs = manifest.model_inputs
        self.model_outputs = manifest.model_outputs
        self.scratch_bytes = max(before.scratch_bytes, after.scratch_bytes)
        """Predicted memory beside the model's, for a batch of 1."""

    def before(self, inputs: Tensors) -> dict[str, Array]:
        """From a client's tensors to the model's.

        Raises:
            ProcessingError: too many samples at once.
        """
        return self._before.run(inputs)

    def after(self, outputs: Tensors) -> dict[str, Array]:
        """From the model's tensors to a client's.

        Raises:
            ProcessingError: too many samples at once.
        """
        return self._after.run(outputs)


def pipeline_of(manifest: Manifest) -> Processing | None:
    """The steps of a manifest, checked against its tensors; None where it has none.

    Raises:
        ProcessingError: they do not lead from `inputs` to `model_inputs`, or from `model_outputs` to `outputs`.
    """
    if not (manifest.preprocess or manifest.postprocess):
        if manifest.model_inputs or manifest.model_outputs:
            raise ProcessingError("the manifest has model_inputs or model_outputs, but no steps")
        return None
    before = Chain(manifest.preprocess, manifest.inputs, "preprocess")
    after = Chain(manifest.postprocess, manifest.model_outputs, "postprocess")
    check_fits(before.result, manifest.model_inputs)
    found, told = _by_name(after.result), _by_name(manifest.outputs)
    if found != told:
        raise ProcessingError(
            f"postprocess gives {_words(after.result)}; the manifest's outputs are {_words(manifest.outputs)}"
        )
    return Processing(before, after, manifest)


def model_manifest(manifest: Manifest) -> Manifest:
    """The manifest as an engine sees it: the tensors are the model's, and there are no steps."""
    if not (manifest.preprocess or manifest.postprocess):
        return manifest
    return msgspec.structs.replace(
        manifest,
        inputs=manifest.model_inputs,
        outputs=manifest.model_outputs,
        preprocess=(),
        postprocess=(),
        model_inputs=(),
        model_outputs=(),
    )


def check_fits(given: Sequence[TensorSpec], model: Sequence[TensorSpec]) -> None:
    """Check that tensors can be fed to a model.

    Raises:
        ProcessingError: other names, datatypes or shapes; sizes that the model leaves free may be anything.
    """
    found = {spec.name: spec for spec in given}
    wanted = {spec.name: spec for spec in model}
    fits = found.keys() == wanted.keys() and all(_fits(found[name], wanted[name]) for name in wanted)
    if not fits:
        raise ProcessingError(f"preprocess gives {_words(given)}; the model takes {_words(model)}")


def _fits(given: TensorSpec, wanted: TensorSpec) -> bool:
    return (
        given.datatype == wanted.datatype
        and len(given.shape) == len(wanted.shape)
        and all(size in {-1, got} for size, got in zip(wanted.shape, given.shape, strict=True))
    )


def _by_name(specs: Sequence[TensorSpec]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {spec.name: (spec.datatype, spec.shape) for spec in specs}


def _words(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs) or "nothing"
