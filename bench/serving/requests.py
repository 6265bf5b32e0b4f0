"""The bytes of the requests, made once: what is measured is the server."""

from __future__ import annotations

import json
from pathlib import Path

from .nets import Net


def json_request(net: Net, path: str | None = None) -> bytes:
    """The V2 request with numbers as JSON."""
    values = [round(float(value), 4) for value in net.sample.ravel()]
    body = json.dumps({"inputs": [{**_tensor(net), "data": values}]}).encode()
    return _post(path or _infer(net), body, "Content-Type: application/json\r\n")


def binary_request(net: Net) -> bytes:
    """The V2 request with the binary tensor extension, in both directions."""
    described = {**_tensor(net), "parameters": {"binary_data_size": net.sample.nbytes}}
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    fields = f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {len(head)}\r\n"
    return _post(_infer(net), head + net.sample.tobytes(), fields)


def grpc_request(net: Net) -> bytes:
    """The path, and a ModelInferRequest with raw contents, spelled by hand: the bench needs no generated code."""
    shape = b"".join(_varint(size) for size in net.sample.shape)
    tensor = _field(1, net.input.name.encode()) + _field(2, b"FP32") + _field(3, shape)
    message = _field(1, net.name.encode()) + _field(5, tensor) + _field(7, net.sample.tobytes())
    return b"/inference.GRPCInferenceService/ModelInfer\n" + message


def write_requests(net: Net, base: Path) -> dict[str, Path]:
    """Return the file of each form."""
    forms = {"json": json_request(net), "binary": binary_request(net), "grpc": grpc_request(net)}
    paths = {}
    for form, content in forms.items():
        paths[form] = base / f"{net.name}.{form}"
        paths[form].write_bytes(content)
    return paths


def _tensor(net: Net) -> dict[str, object]:
    return {"name": net.input.name, "shape": list(net.sample.shape), "datatype": "FP32"}


def _infer(net: Net) -> str:
    return f"/v2/models/{net.name}/infer"


def _post(path: str, body: bytes, fields: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes(parts + bytes([number]))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content
