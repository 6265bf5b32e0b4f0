"""The inference request and response of the V2 protocol, with the binary tensor extension.

`read_request` turns the bytes of a request into tensors that fit the model, or refuses it with one sentence.
`write_response` does the way back. Neither touches a model or the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE
from edgewright.bundle.manifest import TensorSpec

from ..http.messages import BINARY, HEADER_LENGTH_FIELD, Payload, Request, Response
from ..limits import Limits
from ..pipeline import Outcome, Signature
from ..refusal import Refusal
from .answer_json import closing, encode, first_output, next_output, opening
from .classification import DATATYPE, best_classes
from .fit import batch_rows
from .plan import Plan, PlannedInput, plan_request
from .plans import Plans
from .scheduling import Scheduling, read_scheduling
from .tensors import element_count, from_binary, placed, to_binary, to_json

KEY_FIELD = b"x-edgewright-key"
"""Header field for sticky routes, for clients that cannot set the parameter `key`."""

_DEFAULT = Scheduling()
_NOTHING = memoryview(b"")


class Inference(msgspec.Struct):
    """A request that fits the model: its tensors, when it wants to run, and how the answer is wanted."""

    inputs: dict[str, NDArray[Any]]
    rows: int
    wanted: dict[str, bool]
    """Names of the wanted outputs in order, and whether each is wanted as binary."""
    id: str | None
    scheduling: Scheduling = _DEFAULT
    classes: Mapping[str, int] = {}
    """Outputs of which only the best classes are wanted, and how many."""


def read_request(request: Request, signature: Signature, limits: Limits, plans: Plans | None = None) -> Inference:
    """Return the inference in an HTTP request; `plans` saves parsing what came before.

    Raises:
        Refusal: the request is malformed, or does not fit the model.
    """
    head, tensors = _parts(request)
    if head is None:
        return _read_raw(tensors, signature, limits)
    inputs: dict[str, NDArray[Any]] | None = None
    if plans is None:
        plan = plan_request(head, signature, limits)
        identity = plan.id
    elif tensors:
        plan, identity = plans.plan(head, signature, limits)
    else:
        plan, identity, inputs = plans.read(head, signature, limits)
    if inputs is None:
        inputs = _tensors(plan, tensors)
    inference = Inference(inputs, plan.rows, plan.wanted, identity, plan.scheduling, plan.classes)
    key = request.headers.get(KEY_FIELD)
    if key is not None and not inference.scheduling.key:
        given = read_scheduling({"key": key.decode("latin-1")})
        inference.scheduling = inference.scheduling._replace(key=given.key)
    return inference


def _parts(request: Request) -> tuple[bytes | None, memoryview]:
    """The JSON, None where there is none, and the tensors behind it."""
    body = request.body
    if request.tensors is not None:
        return bytes(body), request.tensors
    text = request.headers.get(HEADER_LENGTH_FIELD)
    if text is None:
        return bytes(body), _NOTHING
    length = _header_length(text, len(body))
    return (bytes(body[:length]) if length else None), body[length:]


def _header_length(text: bytes, body_bytes: int) -> int:
    length = int(text) if text.isdigit() and len(text) < 16 else -1
    if not 0 <= length <= body_bytes:
        raise Refusal(
            400, f"Inference-Header-Content-Length must be a number from 0 to {body_bytes}, the length of the body"
        )
    return length


def _tensors(plan: Plan, binary: memoryview) -> dict[str, NDArray[Any]]:
    if len(binary) != plan.binary_bytes:
        raise Refusal(
            400, f"{len(binary)} bytes of binary data follow the JSON; binary_data_size adds up to {plan.binary_bytes}"
        )
    return {each.name: _tensor(each, binary) for each in plan.inputs}


def _tensor(each: PlannedInput, binary: memoryview) -> NDArray[Any]:
    if each.array is not None:
        return each.array
    if each.datatype == "BYTES":
        return from_binary(binary[each.start : each.end], each.datatype, each.shape, each.name)
    return placed(binary, each.start, each.datatype, each.shape, each.name)


def _read_raw(body: memoryview, signature: Signature, limits: Limits) -> Inference:
    """A header length of 0: the whole body is the one input, batch 1, and all outputs are wanted as binary."""
    if len(signature.inputs) != 1:
        raise Refusal(400, f"a raw binary request needs a model with one input; this one has {len(signature.inputs)}")
    (spec,) = signature.inputs.values()
    shape = _raw_shape(spec, len(body))
    element_count(shape, spec.datatype, limits.body_bytes, spec.name)
    if spec.datatype == "BYTES":
        # Triton's rule: the body is the one element itself, without its length.
        body = memoryview(len(body).to_bytes(4, "little") + bytes(body))
    inputs = {spec.name: from_binary(body, spec.datatype, shape, spec.name)}
    return Inference(inputs, batch_rows(inputs, signature), dict.fromkeys(signature.outputs, True), None)


def _raw_shape(spec: TensorSpec, body_bytes: int) -> tuple[int, ...]:
    head = tuple(1 if size == -1 else size for size in spec.shape[:1])
    free = [axis for axis, size in enumerate(spec.shape) if axis > 0 and size == -1]
    if len(free) > 1 or (spec.datatype == "BYTES" and any(size not in {1, -1} for size in spec.shape)):
        raise Refusal(400, f"a raw binary request cannot tell the shape {list(spec.shape)} from its length")
    if spec.datatype == "BYTES" or not free:
        return head + tuple(1 if size == -1 else size for size in spec.shape[1:])
    known = NUMPY_OF_DATATYPE[spec.datatype].itemsize
    for size in (*head, *spec.shape[1:]):
        known *= 1 if size == -1 else size
    if known == 0 or body_bytes == 0 or body_bytes % known:
        raise Refusal(400, f"{body_bytes} bytes do not fill the shape {list(spec.shape)} of {spec.datatype}")
    return head + tuple(body_bytes // known if size == -1 else size for size in spec.shape[1:])


def write_response(inference: Inference, outcome: Outcome, signature: Signature) -> Response:
    """Return the HTTP response with the outputs in the wanted order and form.

    Raises:
        Refusal: 400, best classes are wanted of an output that has none.
    """
    outputs = outcome.outputs or {}
    parts: list[bytes] = []
    tail: list[Payload] = []
    for name, binary in inference.wanted.items():
        array = outputs[name]
        spec = signature.outputs[name]
        datatype: str = spec.datatype
        if inference.classes and name in inference.classes:
            array = best_classes(array, inference.classes[name], batched=spec.shape[:1] == (-1,))
            datatype = DATATYPE
        if parts:
            parts.append(next_output(name, datatype, array.shape))
        else:
            parts.append(first_output(signature.model, outcome.version, name, datatype, array.shape))
        if binary:
            payload = to_binary(array, datatype)
            parts.append(b',"parameters":{"binary_data_size":%d}}' % len(payload))
            tail.append(payload)
        else:
            parts += b',"data":', encode(to_json(array, datatype)), b"}"
    parts.append(b"]}" if inference.id is None and not outcome.notes else closing(inference.id, outcome.notes))
    head = b"".join(parts if inference.wanted else (opening(signature.model, outcome.version), *parts))
    if not tail:
        return Response(200, [head])
    return Response(200, [head, *tail], BINARY, ((HEADER_LENGTH_FIELD, b"%d" % len(head)),))
