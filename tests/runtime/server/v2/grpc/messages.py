"""Requests for the tests of the codec, made by protobuf itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.pipeline import Signature
from edgewright.runtime.server.v2.grpc.schema import message
from edgewright.runtime.server.v2.tensors import to_binary

Request = message("ModelInferRequest")
Response = message("ModelInferResponse")

LIMITS = Limits(json_bytes=100_000, body_bytes=1_000_000, tensors=8)


def signature(**tensors: tuple[Any, tuple[int, ...]]) -> Signature:
    """Return a model that has these tensors as inputs and again as outputs."""
    specs = {name: TensorSpec(name=name, datatype=kind, shape=shape) for name, (kind, shape) in tensors.items()}
    return Signature("m", "1", specs, specs)


def raw_request(of: Signature, inputs: dict[str, NDArray[Any]], **fields: Any) -> Any:
    request = Request(model_name="m", **fields)
    for name, array in inputs.items():
        datatype = of.inputs[name].datatype
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(bytes(to_binary(array, datatype)))
    return request


def texts(*elements: bytes) -> NDArray[Any]:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array
