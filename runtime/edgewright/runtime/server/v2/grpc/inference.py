"""`ModelInferRequest` and `ModelInferResponse`: from bytes to tensors that fit the model, and back.

What a message says beside its raw tensors is the same in each request of a client, so that what was made of it is kept
by its exact bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ...http.messages import Payload
from ...limits import Limits
from ...pipeline import Note, Outcome, Signature
from ...refusal import Refusal
from ..classification import DATATYPE, best_classes, wanted_classes
from ..fit import check_complete, check_input, check_outputs, refuse_unserved, rows_of
from ..scheduling import Scheduling, read_scheduling
from ..tensors import BINARY_ONLY, from_binary, to_binary
from .contents import from_contents, to_contents
from .messages import Message
from .parameters import from_map, set_map
from .schema import message
from .wire import fields_of, split_request

_Request = message("ModelInferRequest")
_Response = message("ModelInferResponse")

WANTS_FINAL = "triton_enable_empty_final_response"
"""A parameter of Triton's clients: they want to know which answer of a stream is the last one to their request."""

_ID, _RAW_OUTPUT = 3, 6
"""Numbers of fields in `ModelInferResponse`."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A request but for its tensors, held against a model."""

    signature: Signature
    inputs: Sequence[tuple[str, str, tuple[int, ...]]]
    """Name, datatype and shape."""
    rows: int
    wanted: Mapping[str, int]
    """Names of the wanted outputs in order, and how many of its best classes are wanted; 0 wants the output."""
    raw_inputs: int
    """How many raw tensors came with it: what is refused beside them is not refused without."""
    raw: bool
    """Whether the answer is raw, as the request was."""


@dataclass(slots=True)
class Head:
    """What a message says beside its raw tensors."""

    fields: Any
    """A `ModelInferRequest`."""
    model: str
    version: str | None
    id: str
    scheduling: Scheduling
    wants_final: bool
    plan: Plan | None = None
    """For the model that was asked last time."""
    answer: tuple[object, bytes] = (None, b"")
    """The head of the last answer, and what it depends on."""


def read_head(data: bytes, limits: Limits) -> Head:
    """Return what a message without its raw tensors says.

    Raises:
        Refusal: it is not a `ModelInferRequest`, or has more parts than the limits allow.
    """
    try:
        fields = _Request.FromString(data)
    except DecodeError as error:
        raise Refusal(400, "the request is not a ModelInferRequest message") from error
    if max(len(fields.inputs), len(fields.outputs)) > limits.tensors:
        raise Refusal(400, f"more than {limits.tensors} inputs or outputs")
    parameters = from_map(fields.parameters)
    wants_final = bool(parameters.pop(WANTS_FINAL, False))
    refuse_unserved(parameters)
    scheduling = read_scheduling(parameters)
    return Head(fields, fields.model_name, fields.model_version or None, fields.id, scheduling, wants_final)


_HEADS = 256
_LONGEST_HEAD = 2048


@dataclass(slots=True)
class Heads:
    """The last few heads by their exact bytes: bounded, whatever clients send."""

    limits: Limits
    _kept: dict[bytes, Head] = field(default_factory=dict)

    def open(self, data: Message) -> tuple[Head, list[memoryview]]:
        """Return the head of a message and its raw tensors.

        Raises:
            Refusal: it is not a `ModelInferRequest`, or it is too large.
        """
        text, raw = split_request(data, self.limits)
        head = self._kept.get(text)
        if head is None:
            head = read_head(text, self.limits)
            if raw and len(text) <= _LONGEST_HEAD and not head.id and head.scheduling.sequence is None:
                if len(self._kept) >= _HEADS:
                    del self._kept[next(iter(self._kept))]
                self._kept[text] = head
        return head, raw


def plan_inference(head: Head, raw_inputs: int, signature: Signature, limits: Limits) -> Plan:
    """Return the plan of a request to a model, from memory where it is that of the last time.

    Raises:
        Refusal: the request does not fit the model.
    """
    plan = head.plan
    if plan is None or plan.signature is not signature or plan.raw_inputs != raw_inputs:
        plan = head.plan = _plan(head.fields, raw_inputs, signature, limits)
    return plan


def _plan(fields: Any, raw_inputs: int, signature: Signature, limits: Limits) -> Plan:
    if raw_inputs and raw_inputs != len(fields.inputs):
        raise Refusal(
            400,
            f"{raw_inputs} raw_input_contents for {len(fields.inputs)} inputs: "
            "either every input comes raw, or none does",
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in fields.inputs:
        name = tensor.name
        if name in shapes:
            raise Refusal(400, f"input '{name[:200]}' is given twice")
        refuse_unserved(from_map(tensor.parameters))
        shapes[name] = check_input(signature, name, tensor.datatype, tensor.shape, limits)
        if raw_inputs and tensor.HasField("contents"):
            raise Refusal(400, f"input '{name}' has contents beside raw_input_contents")
    check_complete(signature, shapes)
    wanted = _wanted(fields.outputs, signature)
    raw = raw_inputs > 0 or any(signature.outputs[name].datatype in BINARY_ONLY for name in wanted)
    inputs = [(tensor.name, tensor.datatype, shapes[tensor.name]) for tensor in fields.inputs]
    return Plan(signature, inputs, rows_of(shapes, signature), wanted, raw_inputs, raw)


def _wanted(outputs: Any, signature: Signature) -> dict[str, int]:
    if not outputs:
        return dict.fromkeys(signature.outputs, 0)
    check_outputs(signature, [output.name for output in outputs])
    wanted: dict[str, int] = {}
    for output in outputs:
        parameters = from_map(output.parameters)
        refuse_unserved(parameters)
        wanted[output.name] = wanted_classes(parameters)
    return wanted


def read_inputs(head: Head, raw: Sequence[memoryview], plan: Plan) -> dict[str, NDArray[Any]]:
    """Return the tensors of a request; raw ones stay where they are in the message.

    Raises:
        Refusal: one of them has another size than its shape, or a number that its datatype has not.
    """
    if raw:
        return {
            name: from_binary(data, datatype, shape, name)
            for (name, datatype, shape), data in zip(plan.inputs, raw, strict=True)
        }
    return {
        name: from_contents(tensor.contents, datatype, shape, name)
        for (name, datatype, shape), tensor in zip(plan.inputs, head.fields.inputs, strict=True)
    }


def write_answer(head: Head, plan: Plan, outcome: Outcome) -> bytes:
    """Return the `ModelInferResponse` with the outputs in the wanted order and form.

    Raises:
        Refusal: 400, best classes are wanted of an output that has none.
    """
    outputs = outcome.outputs or {}
    tensors: list[tuple[str, str, NDArray[Any]]] = []
    for name, classes in plan.wanted.items():
        spec, array = plan.signature.outputs[name], outputs[name]
        if classes:
            tensors.append((name, DATATYPE, best_classes(array, classes, batched=spec.shape[:1] == (-1,))))
        else:
            tensors.append((name, spec.datatype, array))
    parts: list[Payload] = [_answer_head(head, plan, outcome, tensors)]
    if head.id:
        parts += fields_of(_ID, [head.id.encode()])
    if outcome.notes:
        parts.append(_notes(outcome.notes))
    if plan.raw:
        parts += fields_of(_RAW_OUTPUT, [to_binary(array, datatype) for _, datatype, array in tensors])
    return b"".join(parts)


def _answer_head(head: Head, plan: Plan, outcome: Outcome, tensors: Sequence[tuple[str, str, NDArray[Any]]]) -> bytes:
    """What is the same in each answer: names, datatypes, shapes. Kept for the next one where the answer is raw."""
    shapes = [array.shape for _, _, array in tensors]
    key = (plan, outcome.version, shapes)
    if plan.raw and head.answer[0] == key:
        return head.answer[1]
    response = _Response(model_name=plan.signature.model, model_version=outcome.version)
    for name, datatype, array in tensors:
        described = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if not plan.raw:
            described.contents.MergeFrom(_Contents(**to_contents(array, datatype)))
    data: bytes = response.SerializeToString()
    if plan.raw:
        head.answer = (key, data)
    return data


_Contents = message("InferTensorContents")


def _notes(notes: Mapping[str, Note]) -> bytes:
    response = _Response()
    set_map(response.parameters, notes)
    data: bytes = response.SerializeToString()
    return data
