"""LiteRT (TensorFlow Lite) on the CPU, and on Ethos-U through its delegate: `model/model.tflite`.

The interpreter comes from `ai-edge-litert`, or from `tflite-runtime`, its predecessor, which some boards' systems bring
and which is all there is for 32-bit ARM.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.errors import BundleError
from edgewright.bundle.files import read_bounded
from edgewright.bundle.manifest import Manifest
from edgewright.bundle.native_plan import Port

from .border import Border, check_names
from .litert_tensors import FileTensor, matched
from .options import Options, checked_options, name_list, thread_count
from .protocol import EngineMissing, LoadOptions, ModelRefused

try:
    import ai_edge_litert as runtime
    from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate
except ImportError:
    import tflite_runtime as runtime
    from tflite_runtime.interpreter import Interpreter, OpResolverType, load_delegate

MODEL_FILE = "model/model.tflite"
MAX_MODEL_BYTES = (1 << 31) - 1
"""Offsets in a FlatBuffer have 32 bits and a sign."""
DELEGATES = {"ethos-u": Path("/usr/lib/libethosu_delegate.so")}
"""Name in a manifest: where the board's system has the library (NXP's and Arm's Yocto layers)."""

_OPTION_TYPES: dict[str, type] = {"threads": int, "channels_last": str, "delegate": str}


class LitertInstance:
    """One interpreter; calls take turns, each sample is one run."""

    def __init__(
        self, interpreter: Any, border: Border, inputs: tuple[FileTensor, ...], outputs: tuple[FileTensor, ...]
    ) -> None:
        self._interpreter: Any = interpreter
        self._border = border
        self._inputs = inputs
        self._outputs = outputs
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        rows, arrays = self._border.arrays(inputs)
        stored = [tensor.stored(array) for tensor, array in zip(self._inputs, arrays, strict=True)]
        with self._lock:
            if self._interpreter is None:
                raise RuntimeError("this model is closed")
            found = self._run_once(stored) if rows == 1 else self._run_rows(stored, rows)
        return self._border.named([tensor.served(array) for tensor, array in zip(self._outputs, found, strict=True)])

    def _run_once(self, stored: list[NDArray[Any]]) -> list[NDArray[Any]]:
        interpreter = self._interpreter
        for tensor, array in zip(self._inputs, stored, strict=True):
            interpreter.set_tensor(tensor.index, array)
        interpreter.invoke()
        # Copies of the interpreter's memory: the next call writes into that.
        return [interpreter.get_tensor(tensor.index) for tensor in self._outputs]

    def _run_rows(self, stored: list[NDArray[Any]], rows: int) -> list[NDArray[Any]]:
        found = [np.empty((rows, *tensor.shape[1:]), tensor.dtype) for tensor in self._outputs]
        ports = self._border.inputs
        for row in range(rows):
            one = [array[row : row + 1] if port.batched else array for port, array in zip(ports, stored, strict=True)]
            for whole, part in zip(found, self._run_once(one), strict=True):
                whole[row] = part[0]
        return found

    def close(self) -> None:
        with self._lock:
            self._interpreter = None


class Litert:
    """The engine `litert`. Options: threads, channels_last, delegate."""

    name = "litert"

    def __init__(self, delegates: Mapping[str, Path] = DELEGATES) -> None:
        self._delegates = delegates

    def version(self) -> str:
        version: str = runtime.__version__
        return version

    def load(self, directory: Path, manifest: Manifest, options: LoadOptions) -> LitertInstance:
        """Loads the model (see `protocol.Engine`).

        Raises:
            EngineMissing: the delegate that the manifest asks for is not on this machine.
        """
        wanted = checked_options(manifest, _OPTION_TYPES)
        threads = thread_count(wanted, options.threads)
        border = Border(manifest)
        channels_last = _channels_last(wanted, border)
        content = _read(directory, manifest)
        delegates = self._load_delegates(wanted, manifest, emulated=options.emulated)
        try:
            # As bytes, because then every version verifies the file's structure before it follows an offset in it
            # (tensorflow/lite/python/interpreter_wrapper/interpreter_wrapper.cc, CreateWrapperCPPFromBuffer).
            interpreter = Interpreter(
                model_content=content,
                num_threads=threads,
                experimental_delegates=delegates,
                experimental_op_resolver_type=OpResolverType.BUILTIN_REF if options.emulated else OpResolverType.AUTO,
            )
            interpreter.allocate_tensors()
            inputs, outputs = _named_details(interpreter, manifest.model)
        except (ValueError, RuntimeError, MemoryError) as error:
            raise ModelRefused(f"litert {self.version()} cannot load {manifest.model}: {_reason(error)}") from error
        return LitertInstance(
            interpreter,
            border,
            _tensors("input", border.inputs, inputs, channels_last),
            _tensors("output", border.outputs, outputs, channels_last),
        )

    def _load_delegates(self, wanted: Options, manifest: Manifest, *, emulated: bool) -> list[Any]:
        name = str(wanted.get("delegate", ""))
        if not name:
            return []
        if name not in self._delegates:
            known = ", ".join(sorted(self._delegates))
            raise ModelRefused(f"{manifest.model}: engine litert has no delegate {name!r}; it has {known}")
        if emulated:
            raise ModelRefused(f"{manifest.model} is code for the delegate {name}; nothing can emulate it here")
        path = self._delegates[name]
        try:
            ctypes.CDLL(str(path))  # where this fails, load_delegate leaves an object that complains when it is deleted
            return [load_delegate(str(path))]
        except (OSError, ValueError) as error:
            raise EngineMissing(
                f"{manifest.model} needs the delegate {name}, and {path} cannot be loaded here: {error}. It comes with "
                "the board's system image (docs/guides/engines.md)"
            ) from error


def _read(directory: Path, manifest: Manifest) -> bytes:
    entry = next((entry for entry in manifest.entries if entry.path == MODEL_FILE), None)
    if entry is None:
        raise ModelRefused(f"the bundle of {manifest.model} has no {MODEL_FILE}, which engine litert loads")
    if entry.size_bytes > MAX_MODEL_BYTES:
        raise ModelRefused(
            f"{MODEL_FILE} of {manifest.model} has {entry.size_bytes} bytes, more than a TFLite file can"
        )
    try:
        # Bounded by its own size: reading takes as much memory as may be read.
        content = read_bounded(directory / MODEL_FILE, entry.size_bytes)
    except BundleError as error:
        raise ModelRefused(f"{manifest.model}: {error}") from error
    if len(content) != entry.size_bytes:
        raise ModelRefused(
            f"{MODEL_FILE} of {manifest.model} has {len(content)} bytes, its manifest says {entry.size_bytes}. "
            "Install the bundle again"
        )
    return content


def _channels_last(wanted: Options, border: Border) -> frozenset[str]:
    names = frozenset(name_list(wanted, "channels_last"))
    if unknown := sorted(names - {port.name for port in (*border.inputs, *border.outputs)}):
        raise ModelRefused(f"option channels_last names {', '.join(unknown)}, which the manifest does not have")
    return names


_Details = Mapping[str, Mapping[str, Any]]


def _named_details(interpreter: Any, model: str) -> tuple[_Details, _Details]:
    """The file's inputs and outputs by the names of its signature; by the tensors' own where it has none."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    signatures = interpreter.get_signature_list()
    if not signatures:
        return _by_name(inputs), _by_name(outputs)
    if len(signatures) > 1 and "serving_default" not in signatures:
        raise ModelRefused(f"{model} has several signatures, {', '.join(signatures)}, and none is serving_default")
    key = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    runner = interpreter.get_signature_runner(key)
    named = runner.get_input_details(), runner.get_output_details()
    indices = {int(tensor["index"]) for tensor in named[0].values()}
    if indices != {int(tensor["index"]) for tensor in inputs}:
        raise ModelRefused(f"signature {key} of {model} is not that of its main graph, which is what runs here")
    return named


def _by_name(details: list[Mapping[str, Any]]) -> _Details:
    return {str(tensor["name"]): tensor for tensor in details}


def _tensors(
    role: str, ports: tuple[Port, ...], found: _Details, channels_last: frozenset[str]
) -> tuple[FileTensor, ...]:
    check_names(role, ports, found, len(found))
    return tuple(matched(role, port, found[port.name], channels_last=port.name in channels_last) for port in ports)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "custom op" in text and "ethos-u" in text:
        return f"{text} The bundle's option delegate has to be ethos-u"
    return text


ENGINE = Litert()
