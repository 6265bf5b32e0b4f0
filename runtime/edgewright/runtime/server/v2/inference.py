"""The inference request and response of the V2 protocol, with the binary tensor extension.

`read_request` turns the bytes of a request into tensors that fit the model, or refuses it with one sentence.
`write_response` does the way back. Neither touches a model or the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgewright.bundle.manifest import TensorSpec

from ..http.messages import BINARY, HEADER_LENGTH_FIELD, Payload, Request, Response
from ..limits import Limits
from ..pipeline import Outcome, SequenceStep, Signature
from ..refusal import Refusal
from .fit import batch_rows, check_complete, check_input, check_outputs
from .tensors import BINARY_ONLY, NUMPY_OF_DATATYPE, element_count, from_binary, from_json, to_binary, to_json

Parameters = dict[str, str | float | int | bool | None]

_UNSERVED = ("shared_memory_region", "classification", "sequence_id", "sequence_start", "sequence_end")
"""Parameters that would change the answer and that are not served: ignoring them would answer another question."""


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
_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class Inference:
    """A request that fits the model: its tensors, and how the answer is wanted."""

    inputs: dict[str, NDArray[Any]]
    rows: int
    wanted: dict[str, bool]
    """Names of the wanted outputs in order, and whether each is wanted as binary."""
    id: str | None
    priority: int = 0
    timeout_us: int | None = None
    key: str = ""
    sequence: SequenceStep | None = None


def read_request(request: Request, signature: Signature, limits: Limits) -> Inference:
    """Return the inference in an HTTP request.

    Raises:
        Refusal: the request is malformed, or does not fit the model.
    """
    body = request.body
    text = request.headers.get(HEADER_LENGTH_FIELD)
    if text is None:
        return _read(bytes(body), body[len(body) :], signature, limits)
    length = _header_length(text, len(body))
    if length == 0:
        return _read_raw(body, signature, limits)
    return _read(bytes(body[:length]), body[length:], signature, limits)


def _header_length(text: bytes, body_bytes: int) -> int:
    length = int(text) if text.isdigit() and len(text) < 16 else -1
    if not 0 <= length <= body_bytes:
        raise Refusal(
            400, f"Inference-Header-Content-Length must be a number from 0 to {body_bytes}, the length of the body"
        )
    return length


def _read(text: bytes, binary: memoryview, signature: Signature, limits: Limits) -> Inference:
    if len(text) > limits.json_bytes:
        raise Refusal(
            413, f"{len(text)} bytes of JSON; the limit is {limits.json_bytes}. Send large tensors as binary data"
        )
    try:
        parsed = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"not an inference request: {error}") from error
    except RecursionError as error:
        raise Refusal(400, "the JSON is nested too deep") from error
    if max(len(parsed.inputs), len(parsed.outputs or ())) > limits.tensors:
        raise Refusal(400, f"more than {limits.tensors} inputs or outputs")
    _refuse_unserved(parsed.parameters)
    inputs = _read_inputs(parsed.inputs, binary, signature, limits)
    return Inference(inputs, batch_rows(inputs, signature), _wanted(parsed, signature), parsed.id)


def _read_inputs(
    tensors: list[_Input], binary: memoryview, signature: Signature, limits: Limits
) -> dict[str, NDArray[Any]]:
    inputs: dict[str, NDArray[Any]] = {}
    position = 0
    for tensor in tensors:
        if tensor.name in inputs:
            raise Refusal(400, f"input '{tensor.name}' is given twice")
        _refuse_unserved(tensor.parameters)
        shape = check_input(signature, tensor.name, tensor.datatype, tensor.shape, limits)
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            raw = _raw_json(tensor)
            inputs[tensor.name] = from_json(raw, tensor.datatype, shape, tensor.name, limits.rank)
            continue
        if bytes(tensor.data):
            raise Refusal(400, f"input '{tensor.name}' has both 'data' and 'binary_data_size'")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - position:
            raise Refusal(400, f"input '{tensor.name}': binary_data_size {size!r} does not fit the body")
        inputs[tensor.name] = from_binary(binary[position : position + size], tensor.datatype, shape, tensor.name)
        position += size
    if position != len(binary):
        raise Refusal(400, f"{len(binary) - position} bytes of binary data belong to no input")
    check_complete(signature, inputs)
    return inputs


def _raw_json(tensor: _Input) -> bytes:
    raw = bytes(tensor.data)
    if not raw:
        raise Refusal(400, f"input '{tensor.name}' has neither 'data' nor 'binary_data_size'")
    if not raw.startswith(b"["):
        raise Refusal(400, f"input '{tensor.name}': data must be a list")
    return raw


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


def _refuse_unserved(parameters: Parameters | None) -> None:
    for name in _UNSERVED if parameters else ():
        if parameters and parameters.get(name):
            raise Refusal(501, f"the parameter '{name}' is not served here")


def _wanted(parsed: _Infer, signature: Signature) -> dict[str, bool]:
    everything = bool((parsed.parameters or {}).get("binary_data_output", False))
    if parsed.outputs:
        wanted = _wanted_by_name(parsed.outputs, signature, everything)
    else:
        wanted = dict.fromkeys(signature.outputs, everything)
    for name, binary in wanted.items():
        if not binary and signature.outputs[name].datatype in BINARY_ONLY:
            raise Refusal(400, f"output '{name}' has no JSON form in the protocol; ask for it as binary data")
    return wanted


def _wanted_by_name(outputs: list[_Output], signature: Signature, everything: bool) -> dict[str, bool]:
    wanted: dict[str, bool] = {}
    check_outputs(signature, (output.name for output in outputs))
    for output in outputs:
        _refuse_unserved(output.parameters)
        wanted[output.name] = bool((output.parameters or {}).get("binary_data", everything))
    return wanted


def write_response(inference: Inference, outcome: Outcome, signature: Signature) -> Response:
    """Return the HTTP response with the outputs in the wanted order and form."""
    outputs = outcome.outputs or {}
    described: list[dict[str, Any]] = []
    tail: list[Payload] = []
    for name, binary in inference.wanted.items():
        array, datatype = outputs[name], signature.outputs[name].datatype
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
        if binary:
            payload = to_binary(array, datatype)
            entry["parameters"] = {"binary_data_size": len(payload)}
            tail.append(payload)
        else:
            entry["data"] = to_json(array, datatype)
        described.append(entry)
    answer: dict[str, Any] = {"model_name": signature.model, "model_version": outcome.version, "outputs": described}
    if inference.id is not None:
        answer["id"] = inference.id
    if outcome.notes:
        answer["parameters"] = outcome.notes
    head = _encoder.encode(answer)
    if not any(inference.wanted.values()):
        return Response(200, [head])
    return Response(200, [head, *tail], BINARY, ((HEADER_LENGTH_FIELD, b"%d" % len(head)),))
