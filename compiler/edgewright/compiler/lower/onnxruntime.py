"""ONNX Runtime: what it needs of a model, and the two ways in which the compiler runs it.

`ENGINE` is the engine as a device sets it up. `EXACT` switches graph optimisation off: every QDQ pair is then computed
as written, in float, with exact sums: the reference for boards that are not here. MatMulInteger of dynamic models is
rewritten for that.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from ..faults import DataError, ModelError, UnsupportedModel, first_line
from ..graph import Graph, nodes, place
from ..scratch import Scratch
from .integer_products import OPERATOR, in_floats
from .model_file import ModelFile, discard, write_model

NAME = "onnxruntime"
VERSION_RANGE = ">=1.31,<2"

Outputs = dict[str, NDArray[Any]]

SEVERITY_FATAL = 4
WITHOUT_COPIES = ("session.disable_prepacking", "1")
"""Weights stay where they are mapped. Packed ones make products faster, but to pack them takes seconds per GB."""
CHUNK_SAMPLES = 64


class Arithmetic(enum.Enum):
    """How a session computes."""

    ENGINE = "engine"
    EXACT = "exact"
    SATURATING = "saturating"
    """Pairs of products saturate at 16 bits, as on x86 without VNNI; computed by `emulator.py`."""


def engine_options(threads: int) -> dict[str, str | int | bool]:
    """As they go into the manifest; the device and the measurement use the same."""
    return {"intra_op_threads": threads, "inter_op_threads": 1, "allow_spinning": False}


def open_session(model: ModelFile, arithmetic: Arithmetic, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU with a fixed number of threads that do not spin; not for emulated arithmetic."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = SEVERITY_FATAL  # failures come as exceptions, which we word ourselves
    if arithmetic is Arithmetic.EXACT:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry(*WITHOUT_COPIES)
        model = _exact(model, options)
    return _session(model, options)


def check_loads(model: ModelFile) -> None:
    """Raises what the engine raises where it cannot load a model, in the time and memory that the graph alone takes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SEVERITY_FATAL
    options.add_session_config_entry(*WITHOUT_COPIES)
    _session(model, options)


def _session(model: ModelFile, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    source = model if isinstance(model, bytes) else model.path
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _exact(model: ModelFile, options: onnxruntime.SessionOptions) -> ModelFile:
    """The model without kernels that may saturate; weights that lie beside it stay there."""
    content = model if isinstance(model, bytes) else model.path.read_bytes()
    if OPERATOR.encode() not in content:
        return model
    proto = onnx.load_model_from_string(content)
    if not in_floats(proto):
        return model
    if not isinstance(model, bytes):
        folder = str(model.path.parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    return bytes(proto.SerializeToString())


def preflight(graph: Graph, where: str, scratch: Scratch) -> None:
    """Builds a session, and where that fails says which operator it is, where, and what to do.

    Raises:
        UnsupportedModel: ONNX Runtime cannot load the model.
    """
    model = write_model(graph, scratch)
    try:
        check_loads(model)
    except Exception as error:  # the binding raises a dozen classes without a common base but Exception
        raise UnsupportedModel(_explain(graph, where, error)) from error
    finally:
        discard(model)


def _explain(graph: Graph, where: str, error: Exception) -> str:
    first = first_line(error)
    guilty = _guilty(graph, str(error))
    if guilty is None:
        return (
            f"{where}: ONNX Runtime {onnxruntime.__version__} cannot load the model: {first}. "
            "Export it again with standard operators of opset 13 to 23"
        )
    domain = f"{guilty.domain}:" if guilty.domain else ""
    return (
        f"{where}: operator {domain}{guilty.op_type} at {place(guilty)} does not run in ONNX Runtime "
        f"{onnxruntime.__version__}: {first}. Use standard operators, or other attributes, when exporting"
    )


def _guilty(graph: Graph, reason: str) -> ir.Node | None:
    """The node that the engine's message speaks of: by its name, else by its operator."""
    everything = list(nodes(graph))
    by_name = (node for node in everything if node.name and _mentions(reason, node.name))
    by_operator = (node for node in everything if _mentions(reason, node.op_type))
    return next(by_name, None) or next(by_operator, None)


def _mentions(reason: str, name: str) -> bool:
    return re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", reason) is not None


def run(session: onnxruntime.InferenceSession, inputs: Mapping[str, NDArray[Any]]) -> Outputs:
    """Runs any number of samples, in the batches that the model takes; outputs have one row per sample.

    Raises:
        DataError: the engine refuses the values, such as an index beyond its table.
        ModelError: an output's first axis is not the batch.
    """
    parts: dict[str, list[NDArray[Any]]] = {}
    for chunk in run_chunks(session, inputs):
        for name, array in chunk.outputs.items():
            found = len(array) if array.ndim else 1
            if array.ndim == 0 or found != chunk.given:
                raise ModelError(
                    f"output {name!r} has {found} rows for {chunk.given} samples; its first axis must be the batch"
                )
            parts.setdefault(name, []).append(array[: chunk.kept])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


@dataclass(frozen=True)
class Chunk:
    """One call of the engine."""

    outputs: Outputs
    given: int
    """Samples that went in."""
    kept: int
    """Of which so many are not padding."""


def run_chunks(session: onnxruntime.InferenceSession, inputs: Mapping[str, NDArray[Any]]) -> Iterator[Chunk]:
    """Runs samples in the batches that the model takes, and gives what comes out as it is."""
    count = len(next(iter(inputs.values())))
    batch = _batch(session)
    step = batch or CHUNK_SAMPLES
    names = [output.name for output in session.get_outputs()]
    for start in range(0, count, step):
        chunk = {name: array[start : start + step] for name, array in inputs.items()}
        kept = min(step, count - start)
        if batch is not None and kept < batch:
            chunk = {name: _padded(array, batch) for name, array in chunk.items()}
        try:
            values = session.run(names, chunk)
        except Exception as error:  # the binding raises a dozen classes without a common base but Exception
            last = start + kept - 1
            raise DataError(
                f"the model cannot run on samples {start} to {last} of a part: {first_line(error)}"
            ) from error
        outputs = {name: np.asarray(value) for name, value in zip(names, values, strict=True)}
        yield Chunk(outputs, batch or kept, kept)


def _padded(array: NDArray[Any], batch: int) -> NDArray[Any]:
    """Repeats the last sample: the model takes no smaller batch."""
    return np.concatenate([array, np.repeat(array[-1:], batch - len(array), axis=0)])


def _batch(session: onnxruntime.InferenceSession) -> int | None:
    sizes = {value.shape[0] for value in session.get_inputs() if value.shape}
    fixed = {size for size in sizes if isinstance(size, int)}
    return min(fixed) if fixed else None
