"""Plain HTTP for the kit: the standard library's client, sockets, and the checks that every answer has to stand."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = "Inference-Header-Content-Length"
DIGITS = "/v2/models/digits/infer"
ECHO = "/v2/models/echo/infer"
ONE_IMAGE: NDArray[np.float32] = np.linspace(0, 1, 64, dtype=np.float32)
TIMEOUT_S = 20.0


class Answer:
    """Status, headers (names in lower case) and body of one response."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> tuple[Any, bytes]:
        """The JSON part and the binary part, by the header that tells them apart."""
        length = int(self.headers[LENGTH.lower()])
        return json.loads(self.body[:length]), self.body[length:]


def ask(server: str, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection(server, timeout=TIMEOUT_S)
    try:
        connection.request(method, target, body, dict(headers or {}))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def infer(
    server: str, request: Any, tail: bytes = b"", *, target: str = DIGITS, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send an inference request, as JSON or, with a tail, as JSON and binary data."""
    head = json.dumps(request).encode()
    fields = {"Content-Type": "application/json", **(headers or {})}
    if tail:
        fields |= {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return ask(server, "POST", target, head + tail, fields)


def image(**changes: Any) -> dict[str, Any]:
    """The input of `digits` with its data as JSON."""
    return {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": ONE_IMAGE.tolist(), **changes}


def binary_image(size: Any = 256, **changes: Any) -> dict[str, Any]:
    """The input of `digits` with its data behind the JSON."""
    return {
        "name": "image",
        "shape": [1, 64],
        "datatype": "FP32",
        "parameters": {"binary_data_size": size},
        **changes,
    }


def scores(server: str) -> NDArray[np.float32]:
    """What `digits` says of `ONE_IMAGE`."""
    answer = infer(server, {"inputs": [image()]})
    assert answer.status == 200, answer.body
    return np.array(answer.json["outputs"][0]["data"], np.float32).ravel()


def assert_refused(answer: Answer, *, also: frozenset[int] = frozenset()) -> None:
    """The client is told that it is at fault, and something of why."""
    assert 400 <= answer.status < 500 or answer.status in also, (answer.status, answer.body[:300])
    assert answer.body, "an error has a body: clients rely on it"


def assert_told(answer: Answer) -> None:
    """The reason is spelled as the protocol has it."""
    assert answer.headers["content-type"].startswith("application/json")
    told = answer.json
    assert isinstance(told, dict)
    assert isinstance(told.get("error"), str), told
    assert told["error"]


def converse(server: str, request: bytes, *, limit_s: float = 5.0, end: bool = False) -> bytes:
    """Send bytes, and return what comes back until the server closes, falls silent, or the time is up."""
    host, _, port = server.rpartition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=limit_s) as connection:
        try:
            connection.sendall(request)
            if end:
                connection.shutdown(socket.SHUT_WR)
            until_s = time.monotonic() + limit_s
            while time.monotonic() < until_s and (piece := connection.recv(65536)):
                received += piece
                connection.settimeout(0.25)
        except (TimeoutError, ConnectionError):
            pass
    return received
