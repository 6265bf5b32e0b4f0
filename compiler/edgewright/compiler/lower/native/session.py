"""A compiled library behind the few methods of an ONNX Runtime session that the compiler uses.

It is called as devices call it, so that what is timed here is what a request costs there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE
from edgewright.bundle.native_call import NativeInstance
from edgewright.bundle.native_library import NativeEntry, NativeLibrary, NativeTensor
from edgewright.bundle.native_plan import Port, Ports

from ..session import Value
from .net import Array


class NativeSession:
    """A library with all its entries; its calls are shared by threads where it can and `threads` asks for it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        library = NativeLibrary(path)
        self._ports = ports_of(library.entries)
        self._call = NativeInstance(library, self._ports, threads).run

    def get_inputs(self) -> list[Value]:
        """Of the model as a caller sees it."""
        return [_value(port) for port in self._ports.inputs]

    def get_outputs(self) -> list[Value]:
        """Of the model as a caller sees it."""
        return [_value(port) for port in self._ports.outputs]

    def run(self, names: list[str] | None, inputs: Mapping[str, Array]) -> list[Array]:
        """All samples; outputs in the order of `names`, or of the library."""
        outputs = self._call(inputs)
        return list(outputs.values()) if names is None else [outputs[name] for name in names]


def ports_of(entries: tuple[NativeEntry, ...]) -> Ports:
    """The tensors of a model as far as a library alone tells: a fixed batch of one looks like a free one."""
    first = entries[0]
    free = first.batch == 1 and all(tensor.shape[:1] == (1,) for tensor in first.outputs)
    return Ports(
        tuple(_port(tensor, free) for tensor in first.inputs), tuple(_port(tensor, free) for tensor in first.outputs)
    )


def _port(tensor: NativeTensor, free: bool) -> Port:
    batched = free and tensor.shape[:1] == (1,)
    return Port(tensor.name, NUMPY_OF_DATATYPE[tensor.datatype], (-1, *tensor.shape[1:]) if batched else tensor.shape)


def _value(port: Port) -> Value:
    return Value(port.name, (None, *port.shape[1:]) if port.batched else port.shape)
