"""The client that blocks. Threads may share one: each call has a connection to itself while it lasts."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from . import operations
from .address import Tls, parse_address
from .deadline import Deadline
from .errors import ClientError
from .http1 import Answer, Outgoing
from .inference import Options, Result, Sequence, Tensors
from .operations import Label, ModelMetadata, Operation, RepositoryEntry, ServerMetadata
from .retry import Retry
from .shared import SharedTensors
from .sync_connection import SyncConnection
from .tensor_connection import TensorConnection

T = TypeVar("T")

_KEPT = 16
"""Idle connections that are kept for the next call."""


class _Connection(Protocol):
    @property
    def used(self) -> bool: ...

    @property
    def usable(self) -> bool: ...

    def exchange(self, request: Outgoing, deadline: Deadline) -> Answer: ...

    def close(self) -> None: ...


class Client:
    """A client of one server.

    Args:
        url: `http://HOST:PORT`, `https://HOST:PORT`, `unix:///PATH`, or `tensors:///PATH`: a socket over which memory
            is shared instead of copied. The arrays of its answers are read-only.
        timeout_s: for a whole call, retries included, where the call does not say otherwise; None waits for ever.
        token: sent with each request (`Authorization: Bearer`).
        tls: certificates, for https.
        retry: when a call is made again.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float | None = 30.0,
        token: str | None = None,
        tls: Tls | None = None,
        retry: Retry = Retry(),  # noqa: B008 - immutable
    ) -> None:
        self._address = parse_address(url)
        self._context = (tls or Tls()).context() if self._address.secure else None
        self._timeout_s = timeout_s
        self._fields = () if token is None else (("authorization", f"Bearer {token}"),)
        self._retry = retry
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._closed = False

    def alive(self) -> bool:
        """Return whether the server runs."""
        return self._run(operations.alive())

    def ready(self, model: str | None = None, *, version: str | None = None) -> bool:
        """Return whether the server, or one of its models, takes inferences."""
        return self._run(operations.ready(model, version))

    def metadata(self) -> ServerMetadata:
        """Return who answers and which extensions it has."""
        return self._run(operations.server_metadata())

    def model_metadata(self, model: str, *, version: str | None = None) -> ModelMetadata:
        """Return a model's inputs and outputs."""
        return self._run(operations.model_metadata(model, version))

    def infer(
        self,
        model: str,
        inputs: Tensors | SharedTensors,
        *,
        version: str | None = None,
        outputs: tuple[str, ...] = (),
        timeout_s: float | None = None,
        priority: int = 0,
        sequence: Sequence | None = None,
        key: str = "",
        id: str = "",  # noqa: A002 - the protocol's word
    ) -> Result:
        """Run a model on arrays.

        Args:
            model: its name, or that of a route.
            inputs: arrays by the names of the model's inputs (texts and bytes are sent as BYTES), or what `share` made
                of arrays that are sent more than once.
            version: of the model; None takes what the server serves.
            outputs: names of those that are wanted; none takes all.
            timeout_s: how long the answer is worth waiting for; the server is told, and drops what comes too late.
            priority: 1 is the most urgent; 0 is the model's default.
            sequence: the step of a sequence that this is.
            key: what sticky routes choose by.
            id: comes back with the answer.

        Raises:
            ServerRefused: the server said no.
            Unreachable: there was no answer.
            AnswerTimeout: there was none in time.
            BadAnswer: it was not the V2 protocol.
            TypeError: an array is of a type that the protocol has not.
        """
        options = Options(outputs=outputs, timeout_s=timeout_s, priority=priority, sequence=sequence, key=key, id=id)
        return self._run(operations.infer(model, inputs, version, options))

    def statistics(self, model: str | None = None, *, version: str | None = None) -> list[dict[str, Any]]:
        """Return what the server has counted, one entry for each model (the `statistics` extension)."""
        return self._run(operations.statistics(model, version))

    def tell_labels(self, model: str, told: list[Label], *, version: str | None = None) -> None:
        """Tell a model of ours which of its answers were right; the same twice counts twice."""
        self._run(operations.labels(model, told, version))

    def index(self, *, ready_only: bool = False) -> list[RepositoryEntry]:
        """Return the models that the server could serve (an admin listener)."""
        return self._run(operations.index(ready_only=ready_only))

    def load(self, model: str) -> None:
        """Have an installed model served (an admin listener)."""
        self._run(operations.change(model, "load"))

    def unload(self, model: str) -> None:
        """Take a model out of service (an admin listener)."""
        self._run(operations.change(model, "unload"))

    def close(self) -> None:
        """Close the connections that lie idle; those in use close when their call ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.close()

    def _run(self, operation: Operation[T]) -> T:
        timeout_s = self._timeout_s if operation.timeout_s is None else operation.timeout_s
        deadline = Deadline(timeout_s)
        attempt = 0
        while True:
            attempt += 1
            reused = False
            try:
                connection = self._take(deadline)
                reused = connection.used
                return operation.read(self._exchange(connection, operation, deadline))
            except ClientError as error:
                pause_s = self._retry.pause_s(
                    attempt, error, repeatable=operation.repeatable, reused=reused, left_s=deadline.remaining_s
                )
                if pause_s is None:
                    raise
            time.sleep(pause_s)

    def _exchange(self, connection: _Connection, operation: Operation[T], deadline: Deadline) -> Answer:
        try:
            answer = connection.exchange(operation.outgoing(self._address.host, self._fields), deadline)
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return answer

    def _take(self, deadline: Deadline) -> _Connection:
        while True:
            with self._lock:
                if self._closed:
                    raise ClientError("this client is closed")
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(deadline)
            if connection.usable:
                return connection
            connection.close()

    def _connect(self, deadline: Deadline) -> _Connection:
        if self._address.tensors:
            return TensorConnection(self._address, deadline)
        return SyncConnection(self._address, self._context, deadline)

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()
