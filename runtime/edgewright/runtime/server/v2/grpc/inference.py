"""`ModelInferRequest` and `ModelInferResponse`: from bytes to tensors that fit the model, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ...limits import Limits
from ...pipeline import Note, Outcome, Signature
from ...refusal import Refusal
from ..fit import batch_rows, check_complete, check_input, check_outputs, refuse_unserved
from ..tensors import BINARY_ONLY, from_binary, to_binary
from .contents import from_contents, to_contents
from .parameters import from_map, set_map
from .schema import message
from .wire import join_response, split_request

_Request = message("ModelInferRequest")
_Response = message("ModelInferResponse")


@dataclass(slots=True)
class Envelope:
    """A request that was taken apart and not held against a model yet."""

    fields: Any
    """The `ModelInferRequest` without its raw tensors."""
    raw: list[memoryview]
    parameters: Mapping[str, Note]

    @property
    def model(self) -> str:
        name: str = self.fields.model_name
        return name

    @property
    def version(self) -> str | None:
        return self.fields.model_version or None

    @property
    def id(self) -> str:
        text: str = self.fields.id
        return text


@dataclass(slots=True)
class Inference:
    """A request that fits the model: its tensors, and how the answer is wanted."""

    inputs: dict[str, NDArray[Any]]
    rows: int
    wanted: Sequence[str]
    """Names of the wanted outputs in order."""
    raw: bool
    """Whether the answer is raw, as the request was."""


def open_envelope(data: bytes, limits: Limits) -> Envelope:
    """Return the request in a message.

    Raises:
        Refusal: it is not a `ModelInferRequest`, or it is too large.
    """
    head, raw = split_request(data, limits)
    try:
        fields = _Request.FromString(head)
    except DecodeError as error:
        raise Refusal(400, "the request is not a ModelInferRequest message") from error
    if max(len(fields.inputs), len(fields.outputs), len(raw)) > limits.tensors:
        raise Refusal(400, f"more than {limits.tensors} inputs or outputs")
    return Envelope(fields, raw, from_map(fields.parameters) if fields.parameters else {})


def read_inference(envelope: Envelope, signature: Signature, limits: Limits) -> Inference:
    """Return the tensors of a request to a model.

    Raises:
        Refusal: they do not fit the model.
    """
    inputs = _read_inputs(envelope.fields.inputs, envelope.raw, signature, limits)
    wanted = [output.name for output in envelope.fields.outputs]
    if wanted:
        check_outputs(signature, wanted)
        for output in envelope.fields.outputs:
            _refuse_unserved(output)
    else:
        wanted = list(signature.outputs)
    raw = bool(envelope.raw) or any(signature.outputs[name].datatype in BINARY_ONLY for name in wanted)
    return Inference(inputs, batch_rows(inputs, signature), wanted, raw)


def _read_inputs(
    tensors: Sequence[Any], raw: list[memoryview], signature: Signature, limits: Limits
) -> dict[str, NDArray[Any]]:
    if raw and len(raw) != len(tensors):
        raise Refusal(
            400, f"{len(raw)} raw_input_contents for {len(tensors)} inputs: either every input comes raw, or none"
        )
    inputs: dict[str, NDArray[Any]] = {}
    for index, tensor in enumerate(tensors):
        name, datatype = tensor.name, tensor.datatype
        if name in inputs:
            raise Refusal(400, f"input '{name[:200]}' is given twice")
        _refuse_unserved(tensor)
        shape = check_input(signature, name, datatype, tensor.shape, limits)
        if not raw:
            inputs[name] = from_contents(tensor.contents, datatype, shape, name)
        elif tensor.HasField("contents"):
            raise Refusal(400, f"input '{name}' has contents beside raw_input_contents")
        else:
            inputs[name] = from_binary(raw[index], datatype, shape, name)
    check_complete(signature, inputs)
    return inputs


def _refuse_unserved(tensor: Any) -> None:
    if tensor.parameters:
        refuse_unserved(from_map(tensor.parameters))


def write_answer(envelope: Envelope, inference: Inference, outcome: Outcome, signature: Signature) -> bytes:
    """Return the `ModelInferResponse` with the outputs in the wanted order and form."""
    outputs = outcome.outputs or {}
    response = _Response(model_name=signature.model, model_version=outcome.version, id=envelope.id)
    if outcome.notes:
        set_map(response.parameters, outcome.notes)
    raw = []
    for name in inference.wanted:
        array, datatype = outputs[name], signature.outputs[name].datatype
        described = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if inference.raw:
            raw.append(to_binary(array, datatype))
        else:
            described.contents.MergeFrom(_contents(array, datatype))
    head: bytes = response.SerializeToString()
    return join_response(head, raw) if raw else head


_Contents = message("InferTensorContents")


def _contents(array: NDArray[Any], datatype: str) -> Any:
    return _Contents(**to_contents(array, datatype))
