"""Calls of ONNX Runtime on buffers that were bound before: 1.0 to 1.5 µs less for each (docs/adr/0013-engines.md).

That is a twentieth of a small dense net and nothing of a large one, so single samples, whose latency counts, come this
way, and batches that the scheduler puts together, whose rows have to be copied anyway. Everything else goes through
`InferenceSession.run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMBERS
from edgewright.bundle.manifest import Manifest
from edgewright.bundle.native_plan import Port


class _Frame:
    """What one call at a time may use."""

    __slots__ = ("binding", "inputs", "outputs")

    def __init__(
        self, session: ort.InferenceSession, inputs: tuple[Port, ...], outputs: tuple[Port, ...], rows: int = 1
    ) -> None:
        self.binding = session.io_binding()
        self.inputs = [np.zeros(port.of(rows), port.dtype) for port in inputs]
        self.outputs = [(port.name, np.zeros(port.of(rows), port.dtype)) for port in outputs]
        for port, array in zip(inputs, self.inputs, strict=True):
            self.binding.bind_cpu_input(port.name, array)
        for name, array in self.outputs:
            self.binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


class BoundFrame:
    """A `protocol.Frame`: one batch size."""

    __slots__ = ("_frame", "_session", "inputs")

    def __init__(self, session: ort.InferenceSession, frame: _Frame, names: list[str]) -> None:
        self._session = session
        self._frame = frame
        self.inputs: Mapping[str, NDArray[Any]] = dict(zip(names, frame.inputs, strict=True))

    def run(self) -> dict[str, NDArray[Any]]:
        """Every output by name; raises where ONNX Runtime does, as for an output that is not of its manifest's size."""
        self._session.run_with_iobinding(self._frame.binding)
        return {name: array.copy() for name, array in self._frame.outputs}


class BoundCalls:
    """Calls for one sample, or for the fixed batch, from any number of threads."""

    def __init__(self, session: ort.InferenceSession, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> None:
        self._session = session
        self._run = session.run_with_iobinding
        self._inputs = inputs
        self._outputs = outputs
        self._expected = [(port.name, port.dtype, port.of(1)) for port in inputs]
        self._frames: list[_Frame] = []
        self._works = True

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]] | None:
        """Every output by name; None where the inputs are not what was bound, or the call failed.

        An output whose size turns out to be another one is no error of the model: ONNX Runtime refuses to write it into
        the buffer, and no further call is tried.
        """
        if not self._works or len(inputs) != len(self._expected):
            return None
        for name, dtype, shape in self._expected:
            array = inputs.get(name)
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return None
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = _Frame(self._session, self._inputs, self._outputs)
        try:
            for buffer, (name, _, _) in zip(frame.inputs, self._expected, strict=True):
                buffer[...] = inputs[name]
            self._run(frame.binding)
            outputs = {name: array.copy() for name, array in frame.outputs}
        except Exception:  # noqa: BLE001 - whoever runs it in the other way finds out what is wrong, and says so
            self._works = False
            return None
        self._frames.append(frame)
        return outputs

    def frame(self, rows: int) -> BoundFrame | None:
        """Bound buffers for a batch; None where bound calls have failed before."""
        if not self._works:
            return None
        names = [name for name, _, _ in self._expected]
        return BoundFrame(self._session, _Frame(self._session, self._inputs, self._outputs, rows), names)


def bound_calls(session: ort.InferenceSession, manifest: Manifest) -> BoundCalls | None:
    """Bound calls of a session, after its tensors were found to have the manifest's names and datatypes.

    None where the manifest leaves more open than the batch, or an array cannot hold a tensor.
    """
    specs = (*manifest.inputs, *manifest.outputs)
    if any(spec.datatype not in NUMBERS or {-1, 0} & set(spec.shape[1:]) for spec in specs):
        return None
    ports = [Port(spec.name, NUMBERS[spec.datatype], spec.shape) for spec in specs]
    split = len(manifest.inputs)
    return BoundCalls(session, tuple(ports[:split]), tuple(ports[split:]))
