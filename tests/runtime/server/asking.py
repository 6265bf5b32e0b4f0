"""Asking a server over HTTP for an inference, for tests that start servers of their own."""

from __future__ import annotations

import http.client
import json
from typing import Any

FEATURES = 64


def image_body(value: float) -> bytes:
    """A request of one image whose every element is `value`."""
    tensor = {"name": "image", "shape": [1, FEATURES], "datatype": "FP32", "data": [value] * FEATURES}
    return json.dumps({"inputs": [tensor]}).encode()


def ask(port: int, model: str, body: bytes, version: str | None = None) -> tuple[int, Any, dict[str, str]]:
    """Return status, parsed body and headers with lower-case names."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    place = model if version is None else f"{model}/versions/{version}"
    try:
        connection.request("POST", f"/v2/models/{place}/infer", body)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, json.loads(response.read()), headers
    finally:
        connection.close()


def metrics(port: int) -> str:
    """The text of GET /metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()
