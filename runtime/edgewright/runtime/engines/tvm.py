"""Models that TVM compiled: `model/model.so`, run by the virtual machine of TVM's Relax.

The library is code, and loaded only as the file that the manifest names (see `verified_file`). What TVM says of it when
it is loaded is the names of its inputs; datatypes and shapes are checked by a first call.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# TVM's loops would otherwise take every core, in a pool for each thread that calls. Read when it is imported.
os.environ.setdefault("TVM_NUM_THREADS", "1")

import tvm
import tvm_ffi
from tvm.runtime.vm import VirtualMachine

from edgewright.bundle.manifest import Manifest
from edgewright.bundle.native_plan import Port

from .border import Border, check_tensor
from .options import checked_options, name_list
from .protocol import LoadOptions, ModelRefused
from .verified_file import Processor, VerifiedFile, check_processor, open_verified, this_processor

FUNCTION = "main"
ALIGNMENT_BYTES = 64
"""`kAllocAlignment` of include/tvm/runtime/device_api.h."""

_OPTION_TYPES: dict[str, type] = {"outputs": str}


class TvmInstance:
    """One virtual machine; calls take turns, each sample is one run."""

    def __init__(self, machine: Any, border: Border, input_order: list[int], output_order: list[int]) -> None:
        """Takes a machine whose function `main` has the inputs of `border`.

        Args:
            machine: the virtual machine.
            border: the model's tensors, in the manifest's order.
            input_order: for each parameter of the function, the manifest's input.
            output_order: for each output of the manifest, its place among the function's.
        """
        self._function: Any = machine[FUNCTION]
        self._border = border
        self._input_order = input_order
        self._output_order = output_order
        self._views = [_aligned(border.inputs[at]) for at in input_order]
        self._inputs = [tvm.runtime.from_dlpack(view) for view in self._views]
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        rows, arrays = self._border.arrays(inputs)
        outputs = self._border.empty(rows)
        with self._lock:
            if self._function is None:
                raise RuntimeError("this model is closed")
            for row in range(rows):
                found = self._run_once([self._sample(at, arrays[at], row) for at in self._input_order])
                for output, port, place in zip(outputs, self._border.outputs, self._output_order, strict=True):
                    (output[row : row + 1] if port.batched else output)[...] = found[place]
        return self._border.named(outputs)

    def run_on_zeros(self) -> list[NDArray[Any]]:
        """All outputs of the function, in its order."""
        ports = self._border.inputs
        return self._run_once([np.zeros(ports[at].of(1), ports[at].dtype) for at in self._input_order])

    def _run_once(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        for view, array in zip(self._views, arrays, strict=True):
            view[...] = array
        found = self._function(*self._inputs)
        return [np.from_dlpack(tensor) for tensor in ([found] if isinstance(found, tvm.runtime.Tensor) else found)]

    def _sample(self, at: int, array: NDArray[Any], row: int) -> NDArray[Any]:
        return array[row : row + 1] if self._border.inputs[at].batched else array

    def close(self) -> None:
        with self._lock:
            self._function = None
            self._inputs, self._views = [], []


class Tvm:
    """The engine `tvm`. Options: outputs."""

    name = "tvm"

    def __init__(self, processor: Callable[[], Processor] = this_processor) -> None:
        self._processor = processor

    def version(self) -> str:
        version: str = tvm.__version__
        return version

    def load(self, directory: Path, manifest: Manifest, options: LoadOptions) -> TvmInstance:
        """Loads the library (see `protocol.Engine`)."""
        border = Border(manifest)
        names = name_list(checked_options(manifest, _OPTION_TYPES), "outputs")
        output_names = names or tuple(port.name for port in border.outputs)
        if options.emulated:
            # Of its arithmetic there is one kind, compiled in: nothing here could make it another processor's.
            raise ModelRefused(f"{manifest.model} is machine code of TVM; nothing can emulate it here")
        check_processor(manifest, self._processor(), manifest.target.isa)
        with open_verified(directory, manifest) as file:
            module = _load(file, manifest.model)
        try:
            # Memory is not pooled: a pool outlives the model, and saves nothing that was measurable.
            machine = VirtualMachine(module, tvm.cpu(), memory_cfg="naive")
            input_order = _input_order(machine, border)
            instance = TvmInstance(machine, border, input_order, _output_order(border, output_names))
            _check_outputs(instance, border, output_names)
        except (AttributeError, RuntimeError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ModelRefused(f"tvm {self.version()} cannot load {manifest.model}: {reason}") from error
        return instance


def _aligned(port: Port) -> NDArray[Any]:
    """An array for one sample, aligned as TVM's code expects, which numpy's own are not."""
    shape = port.of(1)
    size_bytes = math.prod(shape) * port.dtype.itemsize
    memory = np.zeros(size_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[start : start + size_bytes].view(port.dtype).reshape(shape)


def _load(file: VerifiedFile, model: str) -> Any:
    # TVM goes by the ending of the name, and a descriptor has none: a link in a folder of our own leads to it.
    with tempfile.TemporaryDirectory(prefix="edgewright-tvm-") as folder:
        link = Path(folder) / "model.so"
        link.symlink_to(f"/proc/self/fd/{file.descriptor}")
        try:
            # Not kept alive: closing the model unloads its code.
            module = tvm_ffi.load_module(link, keep_module_alive=False)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).replace(str(link), "it").split())
            raise ModelRefused(f"{model}: model/model.so cannot be loaded: {reason}{file.hint()}") from error
    file.check_unchanged()
    return module


def _input_order(machine: Any, border: Border) -> list[int]:
    count = machine.module["get_function_arity"](FUNCTION)
    found = [str(machine.module["get_function_param_name"](FUNCTION, place)) for place in range(count)]
    names = [port.name for port in border.inputs]
    if sorted(found) != sorted(names):
        raise ModelRefused(f"the model's inputs are {found}, its manifest says {names}")
    return [names.index(name) for name in found]


def _output_order(border: Border, names: tuple[str, ...]) -> list[int]:
    missing = [port.name for port in border.outputs if port.name not in names]
    if missing or len(set(names)) != len(names):
        raise ModelRefused(f"option outputs is {','.join(names)}; expected each output once, {', '.join(missing)} too")
    return [names.index(port.name) for port in border.outputs]


def _check_outputs(instance: TvmInstance, border: Border, names: tuple[str, ...]) -> None:
    """A call on zeros: TVM checks the inputs, and the outputs show what they are."""
    try:
        found = instance.run_on_zeros()
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ModelRefused(f"the model does not take what its manifest says: {reason}") from error
    if len(found) != len(names):
        raise ModelRefused(f"the model has {len(found)} outputs, its manifest and its options name {len(names)}")
    for port in border.outputs:
        output = found[names.index(port.name)]
        check_tensor("output", port, (output.dtype.name, output.shape), port.of(1))


ENGINE = Tvm()
