"""Every call of the protocol as plain data: what is sent, and what is made of the answer.

`sync` and `aio` carry operations out; what they mean is said here once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from .errors import BadAnswer, ServerRefused
from .http1 import Answer, Fields, Outgoing, Payload
from .inference import Options, Result, Tensors, read_answer, request_json, write_request
from .shared import SharedTensors

T = TypeVar("T")
Struct = TypeVar("Struct", bound=msgspec.Struct)

LENGTH_FIELD = "inference-header-content-length"


class ServerMetadata(msgspec.Struct, frozen=True):
    """Who answers, and which extensions of the protocol it has."""

    name: str
    version: str
    extensions: tuple[str, ...] = ()


class TensorMetadata(msgspec.Struct, frozen=True):
    """An input or output of a model; -1 stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """A model as its server describes it."""

    name: str
    platform: str
    versions: tuple[str, ...] = ()
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()


class RepositoryEntry(msgspec.Struct, frozen=True):
    """A model that a server could serve, and whether it does."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


class Label(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one sample: the class that was answered, the true one, and the largest probability (0 to 1)."""

    predicted: int | str
    label: int | str
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One call."""

    method: str
    target: str
    read: Callable[[Answer], T]
    body: tuple[Payload, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    repeatable: bool = True
    """Whether doing it twice is as good as doing it once."""
    timeout_s: float | None = None
    """Overrides the client's."""
    shared: SharedTensors | None = None
    """What holds all of the body but its first part."""

    def outgoing(self, host: str, fields: Fields) -> Outgoing:
        """Return what is sent, with the fields that every request of a client has."""
        descriptor = None if self.shared is None else self.shared.descriptor
        return Outgoing(self.method, self.target, host, (*fields, *self.fields), self.body, descriptor)


def check(answer: Answer) -> Answer:
    """Return an answer that is a success.

    Raises:
        ServerRefused: the server said no.
    """
    if answer.status == 200:
        return answer
    message = f"no reason given ({len(answer.body)} bytes)"
    try:
        told = msgspec.json.decode(answer.body)
        message = str(told["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        pass
    raise ServerRefused(answer.status, message, _retry_after_s(answer))


def _retry_after_s(answer: Answer) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def alive() -> Operation[bool]:
    return Operation("GET", "/v2/health/live", lambda answer: answer.status == 200)


def ready(model: str | None, version: str | None) -> Operation[bool]:
    target = "/v2/health/ready" if model is None else f"{_model(model, version)}/ready"
    return Operation("GET", target, lambda answer: answer.status == 200)


def server_metadata() -> Operation[ServerMetadata]:
    return Operation("GET", "/v2", lambda answer: _struct(answer, ServerMetadata))


def model_metadata(model: str, version: str | None) -> Operation[ModelMetadata]:
    return Operation("GET", _model(model, version), lambda answer: _struct(answer, ModelMetadata))


def statistics(model: str | None, version: str | None) -> Operation[list[dict[str, Any]]]:
    target = "/v2/models/stats" if model is None else f"{_model(model, version)}/stats"
    return Operation("GET", target, _statistics)


def labels(model: str, told: list[Label], version: str | None) -> Operation[None]:
    body = msgspec.json.encode({"rows": told})
    return Operation("POST", f"{_model(model, version)}/labels", _nothing, (body,), (_JSON,), repeatable=False)


def index(*, ready_only: bool) -> Operation[list[RepositoryEntry]]:
    body = msgspec.json.encode({"ready": True} if ready_only else {})
    return Operation("POST", "/v2/repository/index", _entries, (body,), (_JSON,))


def change(model: str, action: str) -> Operation[None]:
    target = f"/v2/repository/models/{quote(model, safe='')}/{action}"
    return Operation("POST", target, _nothing, (b"{}",), (_JSON,))


def infer(model: str, inputs: Tensors | SharedTensors, version: str | None, options: Options) -> Operation[Result]:
    shared = inputs if isinstance(inputs, SharedTensors) else None
    tail: list[Payload]
    if isinstance(inputs, SharedTensors):
        head, tail = request_json(inputs.described, options), [inputs.memory]
    else:
        head, tail = write_request(inputs, options)
    fields = (("content-type", "application/octet-stream"), (LENGTH_FIELD, str(len(head))))
    return Operation(
        "POST",
        f"{_model(model, version)}/infer",
        _result,
        (head, *tail),
        fields,
        repeatable=options.sequence is None,
        timeout_s=options.timeout_s,
        shared=shared,
    )


_JSON = ("content-type", "application/json")


def _model(model: str, version: str | None) -> str:
    base = f"/v2/models/{quote(model, safe='')}"
    return base if version is None else f"{base}/versions/{quote(version, safe='')}"


def _struct(answer: Answer, kind: type[Struct]) -> Struct:
    try:
        return msgspec.json.decode(check(answer).body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"the answer is no {kind.__name__}: {error}") from error


def _statistics(answer: Answer) -> list[dict[str, Any]]:
    found = _json(answer)
    if not isinstance(found, dict) or not isinstance(found.get("model_stats"), list):
        raise BadAnswer("the answer has no list 'model_stats'")
    return list(found["model_stats"])


def _entries(answer: Answer) -> list[RepositoryEntry]:
    try:
        return msgspec.convert(_json(answer), list[RepositoryEntry])
    except msgspec.ValidationError as error:
        raise BadAnswer(f"the answer is no index of a repository: {error}") from error


def _json(answer: Answer) -> Any:
    try:
        return msgspec.json.decode(check(answer).body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"the answer is no JSON: {error}") from error


def _nothing(answer: Answer) -> None:
    check(answer)


def _result(answer: Answer) -> Result:
    body = check(answer).body
    if answer.tensors is not None:
        return read_answer(body, answer.tensors)
    text = answer.headers.get(LENGTH_FIELD, str(len(body)))
    length = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1
    if not 0 <= length <= len(body):
        raise BadAnswer(f"Inference-Header-Content-Length of the answer is {text[:40]!r}, its body {len(body)} bytes")
    return read_answer(body[:length], body[length:])
