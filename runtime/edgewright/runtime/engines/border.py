"""The arrays of a request, held against the manifest before an engine sees them.

The engines differ in what they do with an array that does not fit: one converts it, one reads it as something else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMBERS
from edgewright.bundle.manifest import Manifest, TensorSpec
from edgewright.bundle.native_call import InputRefused
from edgewright.bundle.native_plan import Port, Shape

from .protocol import ModelRefused


class Border:
    """The inputs and outputs of a model whose shapes are fixed, except that the batch may be free.

    Attributes:
        inputs: in the manifest's order.
        outputs: in the manifest's order.
        free: whether the batch is free. Then every output has it, and there is at least one input that has it.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Reads the manifest.

        Raises:
            ModelRefused: a datatype that has no array here, a free dimension besides the batch, or an output without
                a batch where an input has a free one.
        """
        self.inputs = tuple(_port(manifest, spec) for spec in manifest.inputs)
        self.outputs = tuple(_port(manifest, spec) for spec in manifest.outputs)
        self.free = any(port.batched for port in self.inputs)
        if any(port.batched != self.free for port in self.outputs):
            raise ModelRefused(
                f"{manifest.model}: outputs must have a free batch where the inputs have one, and only there"
            )

    def arrays(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[int, list[NDArray[Any]]]:
        """The number of samples (1 where the batch is fixed) and the inputs in the manifest's order.

        Each array is in one piece, aligned and in this machine's byte order; it is copied only where it was not.

        Raises:
            InputRefused: an input is missing, unknown, or of another datatype or shape.
        """
        if len(inputs) != len(self.inputs):
            raise InputRefused(f"inputs {sorted(inputs)}, expected {[port.name for port in self.inputs]}")
        rows, arrays = -1, []
        for port in self.inputs:
            array = inputs.get(port.name)
            if type(array) is not np.ndarray or array.dtype is not port.dtype or not _in_one_piece(array):
                array = _plain(array, port)
            if port.batched and rows < 0 and array.ndim:
                rows = len(array)
            if array.shape != (port.of(rows) if rows >= 0 else port.shape):
                raise InputRefused(f"input '{port.name}' is {list(array.shape)}, expected {list(port.shape)}")
            arrays.append(array)
        return rows if self.free else 1, arrays

    def empty(self, rows: int) -> list[NDArray[Any]]:
        """An array for each output, to be filled."""
        return [np.empty(port.of(rows), port.dtype) for port in self.outputs]

    def named(self, outputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs by name."""
        return {port.name: array for port, array in zip(self.outputs, outputs, strict=True)}


def _port(manifest: Manifest, spec: TensorSpec) -> Port:
    if spec.datatype not in NUMBERS:
        raise ModelRefused(
            f"{manifest.model}: tensor '{spec.name}' is {spec.datatype}, which engine {manifest.engine.name} lacks"
        )
    if -1 in spec.shape[1:]:
        raise ModelRefused(
            f"{manifest.model}: tensor '{spec.name}' has shape {list(spec.shape)}; engine {manifest.engine.name} runs "
            "fixed shapes, only the batch may be free"
        )
    return Port(spec.name, NUMBERS[spec.datatype], spec.shape)


def _in_one_piece(array: NDArray[Any]) -> bool:
    return array.flags.c_contiguous and array.flags.aligned


def _plain(array: Any, port: Port) -> NDArray[Any]:
    """The same values in one piece and in this machine's byte order."""
    if not isinstance(array, np.ndarray):
        what = "is missing" if array is None else f"is of type {type(array).__name__}"
        raise InputRefused(f"input '{port.name}' {what}, expected an array of {port.dtype} {list(port.shape)}")
    if array.dtype.newbyteorder("=") != port.dtype:
        raise InputRefused(f"input '{port.name}' is {array.dtype}, expected {port.dtype}")
    return np.require(array, port.dtype, ["C", "A"])


def check_names(role: str, ports: tuple[Port, ...], found: Collection[str], count: int) -> None:
    """Hold the names of a model's inputs or outputs against its manifest, which may leave out outputs.

    Args:
        role: `input` or `output`.
        ports: the manifest's tensors.
        found: all names that the model's tensors have; one may have several.
        count: how many tensors the model has.

    Raises:
        ModelRefused: a tensor of the manifest is missing, or an input of the model stands in no manifest.
    """
    names = {port.name for port in ports}
    if not names <= set(found) or (role == "input" and count != len(ports)):
        raise ModelRefused(f"the model's {role}s are {sorted(found)}, its manifest says {sorted(names)}")


def check_tensor(role: str, port: Port, found: tuple[str, Shape], expected: Shape) -> None:
    """Hold what the model says of a tensor against its manifest.

    Raises:
        ModelRefused: another datatype (numpy's name) or shape.
    """
    if found != (port.dtype.name, expected):
        raise ModelRefused(
            f"the model's {role} '{port.name}' is {found[0]} {list(found[1])}, its manifest says "
            f"{port.dtype.name} {list(expected)}"
        )
