"""One server takes over from another under load, as at an update: no call of any client is lost."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from edgewright.runtime.control import Accept, Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import GrpcSettings
from tests.contract.grpc.conftest import image
from tests.contract.grpc.test_v2_grpc import image_input
from tests.runtime.small_bundle import digits_bundle

TAKEOVERS = 3
CALLS_BETWEEN = 50
"""Of each client, at least."""


class Load:
    """Clients that call without a pause, and what became of their calls."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self.answered: Counter[str] = Counter()
        self.lost: list[str] = []

    def _failed(self, error: Exception) -> None:
        self.lost.append(repr(error))
        self._stop.set()

    def _in_a_thread(self, name: str) -> None:
        client = triton.InferenceServerClient(self._address)
        try:
            while not self._stop.is_set():
                client.infer("digits", [image_input(image())])
                self.answered[name] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, a call was lost
            self._failed(error)
        client.close()

    async def _many_on_one_channel(self) -> None:
        async with triton_aio.InferenceServerClient(self._address) as client:

            async def infers() -> None:
                await client.infer("digits", [image_input(image(8))])
                self.answered["aio"] += 1

            async def lives() -> None:
                assert await client.is_server_live()
                self.answered["aio live"] += 1

            await asyncio.gather(self._again(infers), self._again(infers), self._again(lives))

    async def _again(self, call: Callable[[], Awaitable[None]]) -> None:
        try:
            while not self._stop.is_set():
                await call()
        except Exception as error:  # noqa: BLE001 - see above
            self._failed(error)

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._in_a_thread, args=(f"thread {number}",)) for number in range(2)]
        threads.append(threading.Thread(target=lambda: asyncio.run(self._many_on_one_channel())))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)

    def go_on(self) -> None:
        """Return when each client has made some more calls."""
        before = self.answered.copy()
        for _ in range(6000):
            grown = self.answered - before
            if self.lost or (len(grown) == 4 and min(grown.values()) >= CALLS_BETWEEN):
                return
            threading.Event().wait(0.01)
        pytest.fail(f"no progress within a minute: {self.answered - before}")


def test_no_call_is_lost_when_a_server_follows_another_under_load(tmp_path: Path) -> None:
    bundle = digits_bundle(tmp_path / "digits-1")
    with ExitStack() as stack:
        tcp = stack.enter_context(listen_tcp())
        serving = stack.enter_context(ServerChild([tcp], tmp_path, grpc=GrpcSettings(address="127.0.0.1:0")))
        assert isinstance(serving.load(bundle.directory, "digits", "1", bundle.digest), Done)
        address = serving.grpc_address
        assert address is not None
        load = Load(address)
        stack.enter_context(load.running())
        load.go_on()
        for number in range(TAKEOVERS):
            directory = tmp_path / f"server-{number}"
            directory.mkdir()
            grpc = GrpcSettings(address=address)
            following = stack.enter_context(ServerChild([tcp], directory, grpc=grpc, paused=True))
            assert isinstance(following.load(bundle.directory, "digits", "1", bundle.digest), Done)
            assert isinstance(following.ask(Accept(id=1000)), Done)
            assert serving.drain() == 0
            load.go_on()
            serving = following
        assert load.lost == []
