"""ONNX Runtime on the CPU.

The pin `onnxruntime>=1.31` has a reason: earlier versions hold the interpreter lock while a session is made, so that
loading a 100 MB model stops every other thread for 0.2 to 0.6 s, and a hot swap would be felt by all requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edgewright.bundle.manifest import Manifest, TensorSpec
from edgewright.targets.faults import UserFault

from .onnxruntime_bound import BoundCalls, BoundFrame, bound_calls
from .options import Options, checked_options
from .protocol import LoadOptions, ModelRefused

MODEL_FILE = "model/model.onnx"

_DATATYPE_OF_ORT = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

_OPTION_TYPES: dict[str, type] = {"intra_op_threads": int, "inter_op_threads": int, "allow_spinning": bool}


class TextRefused(UserFault):
    """An input of datatype BYTES is not what the model can read."""


class OnnxRuntimeInstance:
    """One session."""

    def __init__(
        self,
        session: ort.InferenceSession,
        output_names: list[str],
        bound: BoundCalls | None,
        texts: tuple[str, ...] = (),
    ) -> None:
        """`texts`: inputs of datatype BYTES."""
        self._session: ort.InferenceSession | None = session
        self._output_names = output_names
        self._bound = bound
        self._texts = texts

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if self._bound is not None and (outputs := self._bound.run(inputs)) is not None:
            return outputs
        if self._session is None:
            raise RuntimeError("this model is closed")
        if self._texts:
            inputs = {**inputs, **{name: _decoded(name, inputs[name]) for name in self._texts}}
        return dict(zip(self._output_names, self._session.run(self._output_names, inputs), strict=True))

    def frame(self, rows: int) -> BoundFrame | None:
        """Bound buffers for a batch (see `protocol.Framed`)."""
        return self._bound.frame(rows) if self._bound is not None else None

    def close(self) -> None:
        self._session = self._bound = None


class OnnxRuntime:
    """The engine `onnxruntime`. Options: intra_op_threads, inter_op_threads, allow_spinning."""

    name = "onnxruntime"

    def version(self) -> str:
        version: str = ort.__version__
        return version

    def load(self, directory: Path, manifest: Manifest, options: LoadOptions) -> OnnxRuntimeInstance:
        path = directory / MODEL_FILE
        if not path.is_file():
            raise ModelRefused(f"the bundle of {manifest.model} has no {MODEL_FILE}, which engine {self.name} loads")
        settings = _session_options(checked_options(manifest, _OPTION_TYPES), options)
        try:
            session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own errors have no common base below Exception
            raise ModelRefused(f"onnxruntime {self.version()} cannot load {manifest.model}: {error}") from error
        _check("input", session.get_inputs(), manifest.inputs)
        _check("output", session.get_outputs(), manifest.outputs)
        names = [spec.name for spec in manifest.outputs]
        texts = tuple(spec.name for spec in manifest.inputs if spec.datatype == "BYTES")
        return OnnxRuntimeInstance(session, names, bound_calls(session, manifest), texts)


def _decoded(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the texts as str; of bytes ONNX Runtime would take what Python prints of them, with the `b`."""
    texts = np.empty(array.shape, np.object_)
    try:
        texts.ravel()[:] = [element.decode() if isinstance(element, bytes) else str(element) for element in array.flat]
    except UnicodeDecodeError as error:
        raise TextRefused(
            f"input '{name}': the texts of this model are UTF-8, and one is not: {error.reason}"
        ) from error
    return texts


def _session_options(wanted: Options, options: LoadOptions) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4  # failures come as exceptions, which the caller words
    settings.intra_op_num_threads = options.threads or int(wanted.get("intra_op_threads", 1))
    settings.inter_op_num_threads = int(wanted.get("inter_op_threads", 1))
    # Spinning threads burn a fifth of a core at 10 requests a second and save nothing that was measurable.
    spinning = "1" if wanted.get("allow_spinning", False) else "0"
    settings.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    settings.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    if options.emulated:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return settings


def _check(role: str, found: list[Any], expected: tuple[TensorSpec, ...]) -> None:
    in_model = {tensor.name: _DATATYPE_OF_ORT.get(tensor.type, tensor.type) for tensor in found}
    in_manifest = {spec.name: spec.datatype for spec in expected}
    wrong = in_model != in_manifest if role == "input" else not in_manifest.items() <= in_model.items()
    if wrong:
        raise ModelRefused(f"the model's {role}s are {in_model}, its manifest says {in_manifest}")


ENGINE = OnnxRuntime()
