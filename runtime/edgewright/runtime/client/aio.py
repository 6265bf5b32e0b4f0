"""The same client for asyncio. A call that is cancelled closes its connection, which tells the server to drop it."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from . import operations
from .address import Tls, parse_address
from .async_connection import AsyncConnection
from .async_tensor_connection import AsyncTensorConnection
from .errors import AnswerTimeout, ClientError
from .http1 import Answer, Outgoing
from .inference import Options, Result, Sequence, Tensors
from .operations import Label, ModelMetadata, Operation, RepositoryEntry, ServerMetadata
from .retry import Retry
from .shared import SharedTensors

T = TypeVar("T")

_KEPT = 64
"""Idle connections that are kept for the next call."""


class _Connection(Protocol):
    @property
    def used(self) -> bool: ...

    @property
    def usable(self) -> bool: ...

    async def exchange(self, request: Outgoing) -> Answer: ...

    def abort(self) -> None: ...

    async def wait_closed(self) -> None: ...


class AsyncClient:
    """A client of one server, used on one event loop. See `Client` for the arguments and what calls raise."""

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
        self._idle: list[_Connection] = []
        self._closed = False

    async def alive(self) -> bool:
        """Return whether the server runs."""
        return await self._run(operations.alive())

    async def ready(self, model: str | None = None, *, version: str | None = None) -> bool:
        """Return whether the server, or one of its models, takes inferences."""
        return await self._run(operations.ready(model, version))

    async def metadata(self) -> ServerMetadata:
        """Return who answers and which extensions it has."""
        return await self._run(operations.server_metadata())

    async def model_metadata(self, model: str, *, version: str | None = None) -> ModelMetadata:
        """Return a model's inputs and outputs."""
        return await self._run(operations.model_metadata(model, version))

    async def infer(
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
        """Run a model on arrays; see `Client.infer`."""
        options = Options(outputs=outputs, timeout_s=timeout_s, priority=priority, sequence=sequence, key=key, id=id)
        return await self._run(operations.infer(model, inputs, version, options))

    async def statistics(self, model: str | None = None, *, version: str | None = None) -> list[dict[str, Any]]:
        """Return what the server has counted, one entry for each model (the `statistics` extension)."""
        return await self._run(operations.statistics(model, version))

    async def tell_labels(self, model: str, told: list[Label], *, version: str | None = None) -> None:
        """Tell a model of ours which of its answers were right; the same twice counts twice."""
        await self._run(operations.labels(model, told, version))

    async def index(self, *, ready_only: bool = False) -> list[RepositoryEntry]:
        """Return the models that the server could serve (an admin listener)."""
        return await self._run(operations.index(ready_only=ready_only))

    async def load(self, model: str) -> None:
        """Have an installed model served (an admin listener)."""
        await self._run(operations.change(model, "load"))

    async def unload(self, model: str) -> None:
        """Take a model out of service (an admin listener)."""
        await self._run(operations.change(model, "unload"))

    async def close(self) -> None:
        """Close the connections that lie idle; those in use close when their call ends."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        await self.close()

    async def _run(self, operation: Operation[T]) -> T:
        timeout_s = self._timeout_s if operation.timeout_s is None else operation.timeout_s
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._attempts(operation, end_s)
        except TimeoutError as error:
            raise AnswerTimeout("the server did not answer in time") from error

    async def _attempts(self, operation: Operation[T], end_s: float | None) -> T:
        attempt = 0
        while True:
            attempt += 1
            reused = False
            try:
                connection = await self._take()
                reused = connection.used
                return operation.read(await self._exchange(connection, operation))
            except ClientError as error:
                left_s = None if end_s is None else end_s - time.monotonic()
                pause_s = self._retry.pause_s(
                    attempt, error, repeatable=operation.repeatable, reused=reused, left_s=left_s
                )
                if pause_s is None:
                    raise
            await asyncio.sleep(pause_s)

    async def _exchange(self, connection: _Connection, operation: Operation[T]) -> Answer:
        try:
            answer = await connection.exchange(operation.outgoing(self._address.host, self._fields))
        except BaseException:
            connection.abort()
            raise
        if self._closed or len(self._idle) >= _KEPT:
            connection.abort()
        else:
            self._idle.append(connection)
        return answer

    async def _take(self) -> _Connection:
        if self._closed:
            raise ClientError("this client is closed")
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.abort()
        if self._address.tensors:
            return AsyncTensorConnection.connect(self._address)
        return await AsyncConnection.connect(self._address, self._context)
