"""What a manifest says of a native model's tensors, and what the library says of them: it has to be the same."""

from __future__ import annotations

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE
from edgewright.bundle.manifest import Manifest, TensorSpec
from edgewright.bundle.native_library import NativeEntry, NativeTensor
from edgewright.bundle.native_plan import Port, Ports, Shape

from .protocol import ModelRefused


def check_ports(manifest: Manifest, entries: tuple[NativeEntry, ...]) -> Ports:
    """The tensors of a model, after every entry was found to have just those that its manifest names.

    Raises:
        ModelRefused: names, datatypes, shapes or batch sizes do not fit the manifest.
    """
    ports = Ports(
        _ports("input", manifest.inputs, entries, [entry.inputs for entry in entries]),
        _ports("output", manifest.outputs, entries, [entry.outputs for entry in entries]),
    )
    if ports.leading is None:
        if len(entries) != 1:
            raise ModelRefused(f"{manifest.model} has a fixed batch, but {len(entries)} entries")
    elif not all(port.batched for port in ports.outputs):
        # Each part's outputs must be a part of the outputs.
        raise ModelRefused(f"{manifest.model} takes any batch, but an output has none: it cannot be run in parts")
    elif entries[0].batch != 1:
        raise ModelRefused(
            f"{manifest.model} takes any batch, but its smallest entry is for {entries[0].batch} samples"
        )
    return ports


def _ports(
    role: str, specs: tuple[TensorSpec, ...], entries: tuple[NativeEntry, ...], tensors: list[tuple[NativeTensor, ...]]
) -> tuple[Port, ...]:
    order = [tensor.name for tensor in tensors[0]]
    for entry, of_entry in zip(entries, tensors, strict=True):
        found = {tensor.name: (tensor.datatype, tensor.shape) for tensor in of_entry}
        wanted = {spec.name: (spec.datatype, _shape(spec, entry.batch)) for spec in specs}
        if found != wanted:
            raise ModelRefused(f"the model's {role}s for batch {entry.batch} are {found}, its manifest says {wanted}")
        if [tensor.name for tensor in of_entry] != order:
            raise ModelRefused(f"the model's {role}s for batch {entry.batch} come in another order than {order}")
    by_name = {spec.name: spec for spec in specs}
    return tuple(
        Port(tensor.name, NUMPY_OF_DATATYPE[tensor.datatype], by_name[tensor.name].shape) for tensor in tensors[0]
    )


def _shape(spec: TensorSpec, batch: int) -> Shape:
    return (batch, *spec.shape[1:]) if spec.shape[:1] == (-1,) else spec.shape
