"""What the JSON of an inference request says, checked against the model: how to take the tensors, how to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from ..limits import Limits
from ..pipeline import Signature
from ..refusal import Refusal
from .classification import wanted_classes
from .fit import check_complete, check_input, check_outputs, refuse_unserved, rows_of
from .json_lists import from_json, from_numbers
from .request_json import FlatInfer, FlatInput, Infer, Input, Parameters, read_flat_json, read_json
from .scheduling import Scheduling, read_scheduling
from .tensors import BINARY_ONLY, binary_size

_FLAT_BYTES = 64 * 1024
"""Of longer texts the numbers are counted before they take memory."""
_FLOATS = frozenset({"FP32", "FP64"})


class PlannedInput(msgspec.Struct, frozen=True):
    """One input: what its JSON list says, or where its bytes lie behind the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: NDArray[Any] | None
    start: int = 0
    end: int = 0


class Plan(msgspec.Struct, frozen=True):
    """A request but for its binary tensors."""

    inputs: tuple[PlannedInput, ...]
    binary_bytes: int
    """What must follow the JSON."""
    rows: int
    wanted: dict[str, bool]
    """Names of the wanted outputs in order, and whether each is wanted as binary."""
    classes: dict[str, int]
    """Outputs of which only the best classes are wanted, and how many."""
    id: str | None
    scheduling: Scheduling


def _read_list(tensor: Input | FlatInput, shape: tuple[int, ...], limits: Limits) -> NDArray[Any]:
    if isinstance(tensor, FlatInput):
        return from_numbers(tensor.data, tensor.datatype, shape, tensor.name)
    return from_json(_json_list(tensor), tensor.datatype, shape, tensor.name, limits.rank)


def _json_list(tensor: Input) -> bytes:
    text = bytes(tensor.data)
    if not text:
        raise Refusal(400, f"input '{tensor.name}' has neither 'data' nor 'binary_data_size'")
    if not text.startswith(b"["):
        raise Refusal(400, f"input '{tensor.name}': data must be a list")
    return text


_Read = Callable[[Input | FlatInput, tuple[int, ...], Limits], NDArray[Any] | None]


def plan_request(text: bytes, signature: Signature, limits: Limits) -> Plan:
    """Return what the JSON part of a request says.

    Raises:
        Refusal: it is malformed, or does not fit the model.
    """
    if len(text) > limits.json_bytes:
        raise Refusal(
            413, f"{len(text)} bytes of JSON; the limit is {limits.json_bytes}. Send large tensors as binary data"
        )
    return _planned(_flat_floats(text, signature) or read_json(text), signature, limits)


def plan_around(text: bytes, marks: list[bytes], signature: Signature, limits: Limits) -> Plan | None:
    """Return the plan of all requests that have lists where this one has the marks; its inputs have no arrays.

    Args:
        text: a request's JSON.
        marks: lists that occur in the text once.
        signature: of the model.
        limits: as for the requests.

    Returns:
        None where the marks are not, in their order, the data of all inputs.

    Raises:
        Refusal: as `plan_request`.
    """
    parsed = read_json(text)
    if [bytes(each.data) for each in parsed.inputs] != marks:
        return None
    return _planned(parsed, signature, limits, read=lambda *_: None)


def _planned(parsed: Infer | FlatInfer, signature: Signature, limits: Limits, read: _Read = _read_list) -> Plan:
    if max(len(parsed.inputs), len(parsed.outputs or ())) > limits.tensors:
        raise Refusal(400, f"more than {limits.tensors} inputs or outputs")
    refuse_unserved(parsed.parameters)
    inputs, binary_bytes = _plan_inputs(parsed.inputs, signature, limits, read)
    wanted, classes = _plan_outputs(parsed, signature)
    return Plan(
        inputs=inputs,
        binary_bytes=binary_bytes,
        rows=rows_of({each.name: each.shape for each in inputs}, signature),
        wanted=wanted,
        classes=classes,
        id=parsed.id,
        scheduling=read_scheduling(parsed.parameters),
    )


def _flat_floats(text: bytes, signature: Signature) -> FlatInfer | None:
    """What the text says, if it is of the commonest form; what is another form, or none, is read the long way."""
    if len(text) > _FLAT_BYTES or any(spec.datatype not in _FLOATS for spec in signature.inputs.values()):
        return None
    return read_flat_json(text)


def _plan_inputs(
    tensors: Sequence[Input | FlatInput], signature: Signature, limits: Limits, read: _Read
) -> tuple[tuple[PlannedInput, ...], int]:
    planned: dict[str, PlannedInput] = {}
    position = 0
    for tensor in tensors:
        if tensor.name in planned:
            raise Refusal(400, f"input '{tensor.name}' is given twice")
        refuse_unserved(tensor.parameters)
        shape = check_input(signature, tensor.name, tensor.datatype, tensor.shape, limits)
        size = (tensor.parameters or {}).get("binary_data_size")
        if isinstance(tensor, FlatInput) or size is None:
            array = read(tensor, shape, limits)
            planned[tensor.name] = PlannedInput(tensor.name, tensor.datatype, shape, array)
            continue
        end = position + _checked_size(tensor, shape, size, limits)
        planned[tensor.name] = PlannedInput(tensor.name, tensor.datatype, shape, None, position, end)
        position = end
    check_complete(signature, planned)
    return tuple(planned.values()), position


def _checked_size(tensor: Input, shape: tuple[int, ...], size: object, limits: Limits) -> int:
    if bytes(tensor.data):
        raise Refusal(400, f"input '{tensor.name}' has both 'data' and 'binary_data_size'")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= limits.body_bytes:
        raise Refusal(400, f"input '{tensor.name}': binary_data_size {str(size)[:40]!r} does not fit the body")
    expected = binary_size(shape, tensor.datatype)
    if expected is not None and size != expected:
        raise Refusal(
            400,
            f"input '{tensor.name}': {size} bytes of binary data, expected {expected} for "
            f"{tensor.datatype} {list(shape)}",
        )
    return size


def _plan_outputs(parsed: Infer | FlatInfer, signature: Signature) -> tuple[dict[str, bool], dict[str, int]]:
    everything = _flag(parsed.parameters, "binary_data_output", default=False)
    wanted = dict.fromkeys(signature.outputs, everything)
    classes: dict[str, int] = {}
    if parsed.outputs:
        check_outputs(signature, [output.name for output in parsed.outputs])
        wanted = {}
        for output in parsed.outputs:
            refuse_unserved(output.parameters)
            wanted[output.name] = _flag(output.parameters, "binary_data", default=everything)
            if count := wanted_classes(output.parameters or {}):
                classes[output.name] = count
    for name, binary in wanted.items():
        if not binary and signature.outputs[name].datatype in BINARY_ONLY and name not in classes:
            raise Refusal(400, f"output '{name}' has no JSON form in the protocol; ask for it as binary data")
    return wanted, classes


def _flag(parameters: Parameters | None, name: str, *, default: bool) -> bool:
    value = (parameters or {}).get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refusal(400, f"the parameter '{name}' must be true or false")
    return value
