"""Checks of implicit state: each pair names an input and an output of the model that can stand for each other."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import ManifestError
from .manifest import Manifest, TensorSpec


def check_state(manifest: Manifest) -> None:
    """Check the pairs of `state`.

    Raises:
        ManifestError: a name that is not there or is used twice, another datatype or shape, a step that works on a
            state, or nothing left for clients.
    """
    state = manifest.state
    for role, names, specs, model_specs in (
        ("input", [pair.input for pair in state], manifest.inputs, manifest.model_inputs),
        ("output", [pair.output for pair in state], manifest.outputs, manifest.model_outputs),
    ):
        _check_names(role, names, specs)
        for name in names:
            if model_specs and _spec(model_specs, name) != _spec(specs, name):
                raise ManifestError(
                    f"manifest.json: state: {role} {name!r} is not the model's own; no step may change it."
                )
    for pair in state:
        given, kept = _spec(manifest.inputs, pair.input), _spec(manifest.outputs, pair.output)
        if given is not None and kept is not None and (given.datatype, given.shape) != (kept.datatype, kept.shape):
            raise ManifestError(
                f"manifest.json: state: input {pair.input!r} is {given.datatype} {list(given.shape)}, output "
                f"{pair.output!r} is {kept.datatype} {list(kept.shape)}; expected the same."
            )
        if given is not None and given.datatype == "BYTES":
            raise ManifestError(f"manifest.json: state: {pair.input!r} is BYTES, which has no zero to start from.")


def _check_names(role: str, names: Sequence[str], specs: tuple[TensorSpec, ...]) -> None:
    known = [spec.name for spec in specs]
    for name in names:
        if name not in known:
            raise ManifestError(f"manifest.json: state: the model has no {role} {name!r}; it has {known}.")
        if names.count(name) > 1:
            raise ManifestError(f"manifest.json: state: {role} {name!r} is in two pairs.")
    if names and len(names) >= len(known):
        raise ManifestError(f"manifest.json: state: every {role} is a state; expected one at least for clients.")


def _spec(specs: tuple[TensorSpec, ...], name: str) -> TensorSpec | None:
    return next((spec for spec in specs if spec.name == name), None)
