"""An inference as a client sees it: arrays to the bytes of a request, and the bytes of an answer to arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE

from ..server.refusal import Refusal
from ..server.v2.tensors import from_binary, to_binary
from .errors import BadAnswer
from .http1 import Payload

Tensors = Mapping[str, NDArray[Any]]
Parameter = str | int | float | bool

_DATATYPE_OF = {dtype: name for name, dtype in NUMPY_OF_DATATYPE.items() if name != "BF16"}
_BFLOAT16 = "bfloat16"
"""Numpy has no such type; packages that add one, such as ml_dtypes, call it so."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One step of a sequence of inferences that share state in the server."""

    id: str | int
    start: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The answer of a model. `result["scores"]` is one output; one of BF16 has its bits as uint16."""

    outputs: dict[str, NDArray[Any]]
    model: str
    version: str
    id: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    """What the server says beside the outputs, for example which arm of a route answered."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.outputs[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a call says beside its inputs."""

    outputs: tuple[str, ...] = ()
    timeout_s: float | None = None
    priority: int = 0
    sequence: Sequence | None = None
    key: str = ""
    id: str = ""

    def parameters(self) -> dict[str, Parameter]:
        """Return them as the protocol spells them."""
        found: dict[str, Parameter] = {"binary_data_output": True}
        if self.timeout_s is not None:
            found["timeout"] = max(1, round(self.timeout_s * 1e6))
        if self.priority:
            found["priority"] = self.priority
        if self.key:
            found["key"] = self.key
        if self.sequence is not None:
            found["sequence_id"] = self.sequence.id
            found["sequence_start"] = self.sequence.start
            found["sequence_end"] = self.sequence.end
        return found


def datatype_of(array: NDArray[Any]) -> str:
    """Return the protocol's name of an array's type; texts and bytes are BYTES.

    Raises:
        TypeError: the protocol has no such type.

    >>> datatype_of(np.zeros(2, np.float32)), datatype_of(np.array(["a"]))
    ('FP32', 'BYTES')
    """
    if array.dtype.kind in "OSU":
        return "BYTES"
    if array.dtype.name == _BFLOAT16:
        return "BF16"
    name = _DATATYPE_OF.get(array.dtype.newbyteorder("="))
    if name is None:
        raise TypeError(f"the V2 protocol has no datatype for numpy's {array.dtype}")
    return name


def payload_of(array: NDArray[Any], datatype: str) -> Payload:
    """Return the bytes of a tensor: row-major, little-endian, without a copy where it lies so already."""
    if datatype == "BYTES":
        return to_binary(array.astype(np.object_), datatype)
    if datatype == "BF16":
        return to_binary(array.view(np.uint16), datatype)
    return to_binary(array.astype(array.dtype.newbyteorder("<"), copy=False), datatype)


def described(inputs: Tensors) -> tuple[list[dict[str, Any]], list[Payload]]:
    """Return inputs as the JSON of a request has them, and the bytes of each.

    Raises:
        TypeError: an input is of a type that the protocol has not.
    """
    entries: list[dict[str, Any]] = []
    payloads: list[Payload] = []
    for name, value in inputs.items():
        array = np.asarray(value)
        datatype = datatype_of(array)
        payload = payload_of(array, datatype)
        size = {"binary_data_size": len(payload)}
        entries.append({"name": name, "shape": array.shape, "datatype": datatype, "parameters": size})
        payloads.append(payload)
    return entries, payloads


def request_json(entries: list[dict[str, Any]], options: Options) -> bytes:
    """Return the JSON of a request for inputs that are `described`."""
    request: dict[str, Any] = {"inputs": entries, "parameters": options.parameters()}
    if options.id:
        request["id"] = options.id
    if options.outputs:
        request["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in options.outputs]
    return msgspec.json.encode(request)


def write_request(inputs: Tensors, options: Options) -> tuple[bytes, list[Payload]]:
    """Return the JSON of a request and the tensors that follow it.

    Raises:
        TypeError: an input is of a type that the protocol has not.
    """
    entries, payloads = described(inputs)
    return request_json(entries, options), payloads


class _Output(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Any = None


class _Answer(msgspec.Struct):
    model_name: str
    outputs: list[_Output]
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(_Answer)


def read_answer(head: memoryview, tail: memoryview) -> Result:
    """Return the result in the JSON of an answer and the tensors that follow it, which are not copied.

    Raises:
        BadAnswer: it is no answer of the V2 protocol.
    """
    try:
        answer = _decoder.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"the answer is no V2 inference: {error}") from error
    outputs: dict[str, NDArray[Any]] = {}
    position = 0
    for output in answer.outputs:
        size = (output.parameters or {}).get("binary_data_size")
        if size is None:
            outputs[output.name] = _from_numbers(output)
            continue
        if not isinstance(size, int) or not 0 <= size <= len(tail) - position:
            raise BadAnswer(f"output '{output.name}' claims {size!r} bytes of {len(tail) - position}")
        outputs[output.name] = _from_bytes(output, tail[position : position + size])
        position += size
    return Result(
        outputs, answer.model_name, answer.model_version or "", answer.id or "", dict(answer.parameters or {})
    )


def _from_bytes(output: _Output, data: memoryview) -> NDArray[Any]:
    if output.datatype not in NUMPY_OF_DATATYPE or min(output.shape, default=0) < 0:
        raise BadAnswer(f"output '{output.name}' is {output.datatype[:20]!r} of shape {output.shape[:16]}")
    try:
        return from_binary(data, output.datatype, tuple(output.shape), output.name)
    except Refusal as error:
        raise BadAnswer(error.message.replace("input", "output", 1)) from error


def _from_numbers(output: _Output) -> NDArray[Any]:
    dtype = NUMPY_OF_DATATYPE.get(output.datatype)
    if dtype is None or output.data is None:
        raise BadAnswer(f"output '{output.name}' has no data, or a datatype {output.datatype[:20]!r} that is unknown")
    try:
        return np.array(output.data, dtype).reshape(output.shape)  # null is NaN where the numbers are floats
    except (TypeError, ValueError, OverflowError) as error:
        raise BadAnswer(f"output '{output.name}': its data is not {output.datatype} {output.shape}") from error
