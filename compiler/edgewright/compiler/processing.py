"""`--processing` and `--state`: what clients send and get, as opposed to what the model takes and gives.

The data file holds what clients send. The steps before the model are applied to it by the code that devices run, and
calibration, plans and scores see what the model sees. The bundle carries the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMBERS
from edgewright.bundle.manifest import StatePair
from edgewright.bundle.processing.bound import datatype_of
from edgewright.bundle.processing.chain import Chain
from edgewright.bundle.processing.pipeline import check_fits
from edgewright.bundle.steps import Crop, Nms, Rename, Resize, Step, Steps, TopK
from edgewright.bundle.tensor_spec import Strict, TensorSpec
from edgewright.targets.faults import UserFault

from . import mapped
from .data import LABELS, ONLY_INPUT, SPLIT, Arrays, Dataset, Samples, as_model_inputs
from .faults import DataError, first_line
from .graph import Graph, Port, signature
from .tensor_specs import layout, tensor_specs

MAX_FILE_BYTES = 4 << 20
CHUNK_BYTES = 32 << 20
"""Of samples that are worked on at a time."""


class ProcessingFileError(UserFault):
    """The processing file cannot be used."""


class Declared(Strict, frozen=True, kw_only=True):
    """A processing file: tables `[[before]]` and `[[after]]`, in order."""

    before: Steps = ()
    after: Steps = ()


def read_processing(path: Path | None) -> Declared:
    """The steps in a TOML file; none without a file.

    Raises:
        ProcessingFileError: missing, too large, or not a processing file; the message says where.
    """
    if path is None:
        return Declared()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ProcessingFileError(f"--processing {path}: more than {MAX_FILE_BYTES} bytes")
        return msgspec.toml.decode(data, type=Declared)
    except OSError as error:
        raise ProcessingFileError(f"--processing {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProcessingFileError(f"--processing {path}: {first_line(error)}") from error


@dataclass(frozen=True, kw_only=True)
class ClientSide:
    """What clients send and get; without steps, what the model takes and gives."""

    declared: Declared
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    model_inputs: tuple[TensorSpec, ...]
    model_outputs: tuple[TensorSpec, ...]
    state: tuple[StatePair, ...]
    data: Dataset
    """As clients send it."""
    scratch_bytes: int
    """Predicted memory of the steps, for one sample."""

    @property
    def processed(self) -> bool:
        """Whether there are steps."""
        return bool(self.declared.before or self.declared.after)

    def after(self, outputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """What clients get for these outputs of the model."""
        return applied(Chain(self.declared.after, self.model_outputs, "after"), outputs)

    @property
    def ranked(self) -> frozenset[str]:
        """Outputs that look like class scores and are sorted ones: their first column is no class."""
        found: set[str] = set()
        for step in self.declared.after:
            if isinstance(step, TopK):
                found.add(step.values)
            elif isinstance(step, Nms):
                found.add(step.output_scores)
            elif isinstance(step, Rename) and step.tensor in found:
                found.add(step.name)
        return frozenset(found)

    def observed(self, tensors: Mapping[str, NDArray[Any]]) -> Arrays:
        """The tensors that the drift reference looks at: those that clients send and get."""
        hidden = {name for pair in self.state for name in (pair.input, pair.output)}
        return {name: array for name, array in tensors.items() if name not in hidden}


def applied(chain: Chain, tensors: Mapping[str, NDArray[Any]]) -> Arrays:
    """The tensors after a chain of steps, for any number of samples; large ones lie on disk."""
    given = dict(tensors)
    count = len(next(iter(given.values())))
    touched = [spec for spec in chain.result if spec.name in chain.touched]
    found = {
        spec.name: mapped.empty((count, *spec.shape[1:]), NUMBERS[spec.datatype])
        if spec.datatype in NUMBERS
        else np.empty((count, *spec.shape[1:]), np.object_)
        for spec in touched
    }
    rows = max(1, CHUNK_BYTES // max(1, chain.sample_bytes))
    for start in range(0, count, rows):
        part = slice(start, min(start + rows, count))
        outputs = chain.run({name: array[part] for name, array in given.items()})
        for name, array in found.items():
            array[part] = outputs[name]
    return {spec.name: found.get(spec.name, given.get(spec.name)) for spec in chain.result}  # type: ignore[misc]


def client_names(declared: Declared, model_names: Sequence[str]) -> tuple[str, ...]:
    """The tensors that clients send so that the model gets these: renamed ones have their first name."""
    names = list(model_names)
    for step in reversed(declared.before):
        if isinstance(step, Rename) and step.name in names:
            names[names.index(step.name)] = step.tensor
    return tuple(names)


def sampled(declared: Declared, arrays: Arrays) -> Arrays:
    """Two samples of each array as the model takes them: what frontends need to know of the data."""
    if not declared.before:
        return arrays
    inputs = {
        name: array
        for name, array in arrays.items()
        if name not in {LABELS, SPLIT} and array.ndim and datatype_of(array.dtype) is not None
    }
    first = _names(declared.before[0])[0]
    if first not in inputs and ONLY_INPUT in inputs:
        inputs[first] = inputs.pop(ONLY_INPUT)
    two = {name: np.resize(array[:2], (2, *array.shape[1:])) for name, array in inputs.items() if len(array)}
    specs = [_raw_spec(declared, name, array, -1) for name, array in two.items()]
    return Chain(declared.before, specs, "before").run(two)


def client_side(
    declared: Declared, state: tuple[StatePair, ...], graph: Graph, raw: Dataset
) -> tuple[ClientSide, Dataset]:
    """Binds the steps to the model and applies them to the data.

    Args:
        declared: the steps.
        state: pairs of the model's own tensors.
        graph: the model.
        raw: the data as clients send it, divided.

    Returns:
        The client's side, and the data in the model's types.

    Raises:
        ProcessingError: a step does not fit its tensor, or the last ones do not fit the model.
        DataError: the data does not fit.
    """
    ports = signature(graph).inputs
    model_inputs, model_outputs = tensor_specs(graph)
    _check_state_untouched(declared, state)
    if not declared.before:
        data = _each(raw, lambda samples: as_model_inputs(samples, ports))
        client_inputs, scratch_bytes, client_data = model_inputs, 0, data
    else:
        client_inputs = _client_inputs(declared, model_inputs, raw)
        chain = Chain(declared.before, client_inputs, "before")
        check_fits(chain.result, model_inputs)
        client_ports = tuple(_port(spec) for spec in client_inputs)
        client_data = _each(raw, lambda samples: as_model_inputs(samples, client_ports))
        data = _each(
            client_data,
            lambda samples: as_model_inputs(Samples(applied(chain, samples.inputs), samples.labels), ports),
        )
        scratch_bytes = chain.scratch_bytes
    after = Chain(declared.after, model_outputs, "after")
    side = ClientSide(
        declared=declared,
        inputs=client_inputs,
        outputs=after.result,
        model_inputs=model_inputs,
        model_outputs=model_outputs,
        state=state,
        data=client_data,
        scratch_bytes=max(scratch_bytes, after.scratch_bytes if declared.after else 0),
    )
    return side, data


def in_one_part(samples: Samples, digest: str) -> Dataset:
    """All samples as `calibrate`, in the order of the file; the other parts are empty."""
    none = samples.take(np.empty(0, np.intp))
    return Dataset(samples, none, none, digest, (), "nothing")


def _each(data: Dataset, change: Callable[[Samples], Samples]) -> Dataset:
    return replace(data, calibrate=change(data.calibrate), tune=change(data.tune), test=change(data.test))


def _client_inputs(declared: Declared, model_inputs: tuple[TensorSpec, ...], raw: Dataset) -> tuple[TensorSpec, ...]:
    """Of an input that no step works on, the model's own; of others what the data file holds."""
    touched = {name for step in declared.before for name in _names(step)}
    by_name = {spec.name: spec for spec in model_inputs}
    batch = {spec.shape[0] for spec in model_inputs if spec.shape}
    free = -1 if len(batch) != 1 else batch.pop()
    arrays = raw.calibrate.inputs
    return tuple(
        by_name[name] if name not in touched and name in by_name else _raw_spec(declared, name, array, free)
        for name, array in arrays.items()
    )


def _raw_spec(declared: Declared, name: str, array: NDArray[Any], batch: int) -> TensorSpec:
    datatype = datatype_of(array.dtype.newbyteorder("="))
    if datatype is None:
        raise DataError(f"array {name!r} has type {array.dtype}, which no step can work on")
    shape = (batch, *array.shape[1:])
    told = (step.layout for step in declared.before if isinstance(step, Resize | Crop) and step.tensor == name)
    return TensorSpec(name=name, datatype=datatype, shape=shape, layout=next(told, None) or layout(shape))


def _port(spec: TensorSpec) -> Port:
    return Port(name=spec.name, dtype=ir.DataType.from_numpy(NUMBERS[spec.datatype]), shape=spec.shape)


def _names(step: Step) -> tuple[str, ...]:
    return (step.boxes, step.scores) if isinstance(step, Nms) else (step.tensor,)


def _check_state_untouched(declared: Declared, state: tuple[StatePair, ...]) -> None:
    for steps, names in (
        (declared.before, {pair.input for pair in state}),
        (declared.after, {pair.output for pair in state}),
    ):
        taken = [name for step in steps for name in _names(step) if name in names]
        if taken:
            raise ProcessingFileError(f"--processing: {taken[0]!r} is a state of the model; no step may work on it")
