"""OpenVINO on the CPU: `model/model.xml` with its weights in `model/model.bin`, or `model/model.onnx`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.bundle.manifest import Manifest
from edgewright.bundle.native_plan import Port
from edgewright.targets.host import detect_host

from .border import Border, check_names, check_tensor
from .openvino_silenced import ov
from .options import checked_options, thread_count
from .protocol import LoadOptions, ModelRefused

MODEL_FILES = ("model/model.xml", "model/model.onnx")

_NUMPY_OF_OPENVINO = {
    "boolean": "bool",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
}
_OPTION_TYPES: dict[str, type] = {"threads": int}


class _Bound:
    """A request of fixed shapes with its own tensors: writing into those is the cheapest way in, reading them out."""

    def __init__(self, request: ov.InferRequest, inputs: list[int], outputs: list[int]) -> None:
        self._request = request
        self._inputs = [request.get_input_tensor(place).data for place in inputs]
        request.infer()  # memory of outputs is settled by the first call
        self._outputs = [request.get_output_tensor(place).data for place in outputs]

    def run(self, arrays: list[NDArray[Any]], into: list[NDArray[Any]]) -> None:
        for view, array in zip(self._inputs, arrays, strict=True):
            view[...] = array
        self._request.infer()
        for array, view in zip(into, self._outputs, strict=True):
            array[...] = view


class _Free:
    """A request that takes any batch."""

    def __init__(self, request: ov.InferRequest, inputs: list[int], outputs: list[int]) -> None:
        self._request = request
        self._inputs = inputs
        self._outputs = outputs

    def run(self, arrays: list[NDArray[Any]], into: list[NDArray[Any]]) -> None:
        self._request.infer(dict(zip(self._inputs, arrays, strict=True)), share_inputs=True)
        for array, place in zip(into, self._outputs, strict=True):
            found = self._request.get_output_tensor(place).data
            if found.shape != array.shape:
                raise RuntimeError(f"an output has shape {list(found.shape)}, expected {list(array.shape)}")
            array[...] = found


class OpenVinoInstance:
    """A model compiled for one sample (or its fixed batch), and beside it, where the file allows, for any batch."""

    def __init__(self, border: Border, one: _Bound, many: _Free | None) -> None:
        self._border = border
        self._one: _Bound | None = one
        self._many = many
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        rows, arrays = self._border.arrays(inputs)
        outputs = self._border.empty(rows)
        with self._lock:
            if self._one is None:
                raise RuntimeError("this model is closed")
            if rows == 1:
                self._one.run(arrays, outputs)
            elif rows and self._many is not None:
                self._many.run(arrays, outputs)
            else:
                for row in range(rows):
                    self._one.run(self._row(arrays, row), [array[row : row + 1] for array in outputs])
        return self._border.named(outputs)

    def _row(self, arrays: list[NDArray[Any]], row: int) -> list[NDArray[Any]]:
        ports = self._border.inputs
        return [array[row : row + 1] if port.batched else array for port, array in zip(ports, arrays, strict=True)]

    def close(self) -> None:
        with self._lock:
            self._one = self._many = None


def sums_exactly() -> bool:
    """Whether int8 products are summed exactly on this processor."""
    cpu = detect_host().cpu
    return (cpu.int8.u8s8, cpu.int8.s8s8, cpu.int8.u8u8) == ("exact", "exact", "exact")


class OpenVino:
    """The engine `openvino`. Options: threads."""

    name = "openvino"

    def __init__(self, int8_is_exact: Callable[[], bool] = sums_exactly) -> None:
        self._int8_is_exact = int8_is_exact
        self._core = ov.Core()

    def version(self) -> str:
        version: str = ov.__version__
        return version.split("-")[0]

    def load(self, directory: Path, manifest: Manifest, options: LoadOptions) -> OpenVinoInstance:
        """Loads the model (see `protocol.Engine`)."""
        border = Border(manifest)
        threads = thread_count(checked_options(manifest, _OPTION_TYPES), options.threads)
        if options.emulated and manifest.precision == "int8" and not self._int8_is_exact():
            raise ModelRefused(
                f"{manifest.model} is int8, and OpenVINO has no exact sums of int8 products on this processor: it "
                "cannot stand in for another one. Run it on a processor with VNNI"
            )
        path = _model_file(directory, manifest.model)
        settings = _settings(threads, emulated=options.emulated)
        try:
            model = self._core.read_model(path)
            places = _places("input", border.inputs, model.inputs), _places("output", border.outputs, model.outputs)
            _check_inputs(border, model, places[0])
            many = None
            if border.free and _takes_any_batch(border, model, places):
                many = _Free(self._core.compile_model(model, "CPU", settings).create_infer_request(), *places)
            one = self._compile_one(model.clone(), border, places, settings)
        except (RuntimeError, ValueError, TypeError) as error:  # of which its own errors are
            reason = " ".join(str(error).split())
            raise ModelRefused(f"openvino {self.version()} cannot load {manifest.model}: {reason}") from error
        return OpenVinoInstance(border, one, many)

    def _compile_one(
        self, model: ov.Model, border: Border, places: tuple[list[int], list[int]], settings: Mapping[str, Any]
    ) -> _Bound:
        inputs, outputs = places
        model.reshape(
            {model.inputs[place]: list(port.of(1)) for place, port in zip(inputs, border.inputs, strict=True)}
        )
        for place, port in zip(outputs, border.outputs, strict=True):
            found = model.outputs[place]
            check_tensor("output", port, (_datatype(found), tuple(_dimensions(found))), port.of(1))
        return _Bound(self._core.compile_model(model, "CPU", settings).create_infer_request(), inputs, outputs)


def _settings(threads: int, *, emulated: bool) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Else machines with bfloat16 instructions would round where others do not.
        "INFERENCE_PRECISION_HINT": "f32",
        "EXECUTION_MODE_HINT": "ACCURACY" if emulated else "PERFORMANCE",
    }


def _model_file(directory: Path, model: str) -> Path:
    found = [directory / name for name in MODEL_FILES if (directory / name).is_file()]
    if len(found) != 1:
        raise ModelRefused(
            f"the bundle of {model} has {len(found)} of {' and '.join(MODEL_FILES)}; engine openvino loads the one "
            "that is there"
        )
    if found[0].suffix == ".xml" and not found[0].with_suffix(".bin").is_file():
        raise ModelRefused(f"the bundle of {model} has no model/model.bin, where model/model.xml has its weights")
    return found[0]


def _places(role: str, ports: tuple[Port, ...], found: list[Any]) -> list[int]:
    """Where the manifest's tensors are among the model's."""
    at = {name: place for place, tensor in enumerate(found) for name in tensor.get_names()}
    check_names(role, ports, at, len(found))
    return [at[port.name] for port in ports]


def _check_inputs(border: Border, model: ov.Model, places: list[int]) -> None:
    for place, port in zip(places, border.inputs, strict=True):
        tensor = model.inputs[place]
        sizes, expected = _dimensions(tensor), port.of(1)
        if len(sizes) == len(expected):
            # What the file leaves open is closed with the manifest's sizes.
            sizes = [wanted if size < 0 else size for size, wanted in zip(sizes, expected, strict=True)]
        check_tensor("input", port, (_datatype(tensor), tuple(sizes)), expected)


def _takes_any_batch(border: Border, model: ov.Model, places: tuple[list[int], list[int]]) -> bool:
    pairs = [
        *zip(places[0], border.inputs, [model.inputs] * len(places[0]), strict=True),
        *zip(places[1], border.outputs, [model.outputs] * len(places[1]), strict=True),
    ]
    return all(_dimensions(tensors[place])[:1] == [-1] for place, port, tensors in pairs if port.batched)


def _dimensions(tensor: Any) -> list[int]:
    """Sizes, -1 where one is open."""
    shape = tensor.get_partial_shape()
    if not shape.rank.is_static:
        return []
    return [size.get_length() if size.is_static else -1 for size in shape]


def _datatype(tensor: Any) -> str:
    name: str = tensor.get_element_type().get_type_name()
    return _NUMPY_OF_OPENVINO.get(name, name)


ENGINE = OpenVino()
