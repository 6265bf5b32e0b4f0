"""What the JSON of an inference request says, checked against the model: how to take the tensors, how to answer.

A client sends the same JSON before each of its binary tensors, so that plans are kept by their exact bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from ..limits import Limits
from ..pipeline import Signature
from ..refusal import Refusal
from .classification import wanted_classes
from .fit import check_complete, check_input, check_outputs, refuse_unserved, rows_of
from .scheduling import Scheduling, read_scheduling
from .tensors import BINARY_ONLY, binary_size, from_json, from_numbers

Parameters = dict[str, str | float | int | bool | None]

_NOTHING = msgspec.Raw()


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw = _NOTHING


class _Output(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class _Infer(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Output] | None = None


_decoder = msgspec.json.Decoder(_Infer)


class _FlatInput(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]
    parameters: Parameters | None = None


class _FlatInfer(msgspec.Struct):
    inputs: list[_FlatInput]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Output] | None = None


_flat_decoder = msgspec.json.Decoder(_FlatInfer)
"""Reads the commonest request, flat lists of numbers for floats, in one pass instead of two."""
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


def plan_request(text: bytes, signature: Signature, limits: Limits) -> Plan:
    """Return what the JSON part of a request says.

    Raises:
        Refusal: it is malformed, or does not fit the model.
    """
    if len(text) > limits.json_bytes:
        raise Refusal(
            413, f"{len(text)} bytes of JSON; the limit is {limits.json_bytes}. Send large tensors as binary data"
        )
    parsed = _parsed_flat(text, signature) or _parsed(text)
    if max(len(parsed.inputs), len(parsed.outputs or ())) > limits.tensors:
        raise Refusal(400, f"more than {limits.tensors} inputs or outputs")
    refuse_unserved(parsed.parameters)
    inputs, binary_bytes = _plan_inputs(parsed.inputs, signature, limits)
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


def _parsed_flat(text: bytes, signature: Signature) -> _FlatInfer | None:
    """What the text says, if it is of the commonest form; what is another form, or none, is read the long way."""
    if len(text) > _FLAT_BYTES or any(spec.datatype not in _FLOATS for spec in signature.inputs.values()):
        return None
    try:
        parsed = _flat_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if any("binary_data_size" in (each.parameters or ()) for each in parsed.inputs) else parsed


def _parsed(text: bytes) -> _Infer:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"not an inference request: {error}") from error
    except RecursionError as error:
        raise Refusal(400, "the JSON is nested too deep") from error


def _plan_inputs(
    tensors: Sequence[_Input | _FlatInput], signature: Signature, limits: Limits
) -> tuple[tuple[PlannedInput, ...], int]:
    planned: dict[str, PlannedInput] = {}
    position = 0
    for tensor in tensors:
        if tensor.name in planned:
            raise Refusal(400, f"input '{tensor.name}' is given twice")
        refuse_unserved(tensor.parameters)
        shape = check_input(signature, tensor.name, tensor.datatype, tensor.shape, limits)
        if isinstance(tensor, _FlatInput):
            array = from_numbers(tensor.data, tensor.datatype, shape, tensor.name)
            planned[tensor.name] = PlannedInput(tensor.name, tensor.datatype, shape, array)
            continue
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            array = from_json(_json_list(tensor), tensor.datatype, shape, tensor.name, limits.rank)
            planned[tensor.name] = PlannedInput(tensor.name, tensor.datatype, shape, array)
            continue
        end = position + _checked_size(tensor, shape, size, limits)
        planned[tensor.name] = PlannedInput(tensor.name, tensor.datatype, shape, None, position, end)
        position = end
    check_complete(signature, planned)
    return tuple(planned.values()), position


def _checked_size(tensor: _Input, shape: tuple[int, ...], size: object, limits: Limits) -> int:
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


def _json_list(tensor: _Input) -> bytes:
    text = bytes(tensor.data)
    if not text:
        raise Refusal(400, f"input '{tensor.name}' has neither 'data' nor 'binary_data_size'")
    if not text.startswith(b"["):
        raise Refusal(400, f"input '{tensor.name}': data must be a list")
    return text


def _plan_outputs(parsed: _Infer | _FlatInfer, signature: Signature) -> tuple[dict[str, bool], dict[str, int]]:
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


_PLANS = 256
_LONGEST_TEXT = 2048
_LEADING_ID = re.compile(rb'\{"id": ?"([ !#-\[\]-~]{0,128})", ?')
"""Clients write the id first; one without escapes is what its bytes say, and the rest is as good as without it."""


class Plans:
    """The last few plans, by signature and exact JSON: bounded, whatever clients send."""

    def __init__(self) -> None:
        self._plans: dict[tuple[int, bytes], tuple[Signature, Plan]] = {}

    def plan(self, text: bytes, signature: Signature, limits: Limits) -> tuple[Plan, str | None]:
        """`plan_request`, from memory where the same was asked before, and the request's id.

        Raises:
            Refusal: as `plan_request`.
        """
        found = _LEADING_ID.match(text)
        if found is None:
            plan = self._planned(text, signature, limits)
            return plan, plan.id
        plan = self._planned(b"{" + text[found.end() :], signature, limits)
        return plan, found[1].decode() if plan.id is None else plan.id

    def _planned(self, text: bytes, signature: Signature, limits: Limits) -> Plan:
        key = (id(signature), text)  # the entry holds the signature, so that nothing else gets its identity
        kept = self._plans.get(key)
        if kept is not None:
            return kept[1]
        plan = plan_request(text, signature, limits)
        # An id is of one request, and so are numbers in JSON: keeping those would only drive out the others.
        if plan.id is None and len(text) <= _LONGEST_TEXT and all(each.array is None for each in plan.inputs):
            if len(self._plans) >= _PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = signature, plan
        return plan
