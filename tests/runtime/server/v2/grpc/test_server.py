"""The port of gRPC from outside, by grpcio as its client: what is bounded over all clients, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import numpy as np
import pytest

from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.names import Names
from edgewright.runtime.server.trace_settings import TraceSettings
from edgewright.runtime.server.v2.grpc.server import GrpcServer
from edgewright.runtime.server.v2.shared import Shared
from edgewright.runtime.serving import GrpcSettings, TlsSettings
from tests.runtime.server.pipeline_stand_ins import HeldModel
from tests.runtime.server.v2.grpc.call_rig import SIGNATURE, OneName
from tests.runtime.server.v2.grpc.messages import raw_request

INFER = "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
CERTIFICATES = Path(__file__).parents[2] / "http/certificates"
LONG_S = 30.0
"""Far more than anything here takes."""
REQUEST = raw_request(SIGNATURE, {"y": np.zeros(3, np.float32)}).SerializeToString()


class Served:
    """A held model behind a port."""

    def __init__(self, limits: Limits, settings: GrpcSettings) -> None:
        self.model = HeldModel()
        self.model.signature = SIGNATURE
        none = cast("Any", None)
        names = cast("Names", OneName(self.model))
        self.server = GrpcServer(
            settings,
            Shared(
                names=names,
                table=none,
                state=none,
                repository=none,
                limits=limits,
                log=none,
                trace=TraceSettings(),
            ),
        )
        self.address = self.server.start()

    async def jobs(self, count: int) -> None:
        """Wait until so many jobs are held."""
        async with asyncio.timeout(LONG_S):
            while len(self.model.held) < count:  # noqa: ASYNC110 - the model tells nobody
                await asyncio.sleep(0.01)


def run(
    use: Callable[[Served], Awaitable[None]], limits: Limits | None = None, address: str = "127.0.0.1:0", **more: Any
) -> None:
    async def scenario() -> None:
        served = Served(limits or Limits(), GrpcSettings(address=address, **more))
        try:
            await use(served)
        finally:
            await served.server.stop(0.0)

    asyncio.run(scenario())


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_connections_are_bounded_and_whoever_waits_is_served_later() -> None:
    async def use(served: Served) -> None:
        host, _, port = served.address.rpartition(":")
        ends = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        for _, writer in ends:
            writer.write(HELLO)
        for reader, _ in ends[:2]:
            assert await asyncio.wait_for(reader.read(9), LONG_S)
        waiting = asyncio.ensure_future(ends[2][0].read(9))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        ends[0][1].close()
        assert await asyncio.wait_for(waiting, LONG_S)
        for _, writer in ends[1:]:
            writer.close()

    run(use, Limits(connections=2))


def test_bodies_are_bounded_over_all_clients() -> None:
    async def use(served: Served) -> None:
        async with (
            grpc.aio.insecure_channel(served.address) as one,
            grpc.aio.insecure_channel(served.address) as other,
        ):
            first = [one.unary_unary(INFER)(REQUEST, timeout=LONG_S) for _ in range(2)]
            await served.jobs(2)
            call = other.unary_unary(INFER)(REQUEST, timeout=LONG_S)
            assert await code_of(call) is grpc.StatusCode.UNAVAILABLE
            assert ("grpc-retry-pushback-ms", "1000") in tuple(await call.trailing_metadata())
            served.model.answer()
            served.model.answer()
            assert [await code_of(each) for each in first] == [grpc.StatusCode.OK] * 2
            last = other.unary_unary(INFER)(REQUEST, timeout=LONG_S)
            await served.jobs(1)
            served.model.answer()
            assert await code_of(last) is grpc.StatusCode.OK

    run(use, Limits(total_body_bytes=2 * len(REQUEST) + 20))


def test_an_end_answers_what_was_accepted_and_no_more() -> None:
    async def use(served: Served) -> None:
        async with grpc.aio.insecure_channel(served.address) as channel:
            call = asyncio.ensure_future(code_of(channel.unary_unary(INFER)(REQUEST, timeout=LONG_S)))
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
            await stream.write(REQUEST)
            await served.jobs(2)
            stopping = asyncio.ensure_future(served.server.stop(LONG_S))
            await asyncio.sleep(0.2)
            assert not stopping.done()
            for _ in range(2):
                served.model.answer()
            assert await call is grpc.StatusCode.OK
            assert await stream.read()
            assert await stream.code() is grpc.StatusCode.UNAVAILABLE
            await stopping
            late = channel.unary_unary(LIVE)(b"", timeout=LONG_S)
            assert await code_of(late) is grpc.StatusCode.UNAVAILABLE

    run(use)


def test_an_end_that_takes_too_long_is_cut_short() -> None:
    async def use(served: Served) -> None:
        async with grpc.aio.insecure_channel(served.address) as channel:
            call = asyncio.ensure_future(code_of(channel.unary_unary(INFER)(REQUEST, timeout=LONG_S)))
            await served.jobs(1)
            await served.server.stop(0.1)
            assert await call is grpc.StatusCode.UNAVAILABLE
            assert [job.cancelled for job, _ in served.model.held] == [True]

    run(use)


def test_the_next_server_takes_over_a_unix_socket(tmp_path: Path) -> None:
    async def use(served: Served) -> None:
        successor = Served(Limits(), GrpcSettings(address=served.address))
        await served.server.stop(LONG_S)
        async with grpc.aio.insecure_channel(served.address) as channel:
            assert await code_of(channel.unary_unary(LIVE)(b"", timeout=LONG_S)) is grpc.StatusCode.OK
        await successor.server.stop(LONG_S)

    run(use, address=f"unix:{tmp_path}/s")
    assert list(tmp_path.iterdir()) == []


def test_tls_is_spoken_with_those_whom_the_authority_knows() -> None:
    tls = TlsSettings(
        certificate=str(CERTIFICATES / "server.pem"),
        key=str(CERTIFICATES / "server.key"),
        client_ca=str(CERTIFICATES / "authority.pem"),
    )

    def credentials(**more: bytes) -> Any:
        return grpc.ssl_channel_credentials((CERTIFICATES / "authority.pem").read_bytes(), **more)

    async def use(served: Served) -> None:
        pair = {
            "private_key": (CERTIFICATES / "client.key").read_bytes(),
            "certificate_chain": (CERTIFICATES / "client.pem").read_bytes(),
        }
        port = served.address.rpartition(":")[2]
        for known, code in ((pair, grpc.StatusCode.OK), ({}, grpc.StatusCode.UNAVAILABLE)):
            async with grpc.aio.secure_channel(f"localhost:{port}", credentials(**known)) as channel:
                assert await code_of(channel.unary_unary(LIVE)(b"", timeout=LONG_S)) is code

    run(use, address="127.0.0.1:0", tls=tls)


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_bodies_of_every_size_come_and_go(size: int) -> None:
    """Larger ones than the windows of either side."""

    async def use(served: Served) -> None:
        request = raw_request(SIGNATURE, {"y": np.zeros(3, np.float32)})
        request.id = "x" * size
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(served.address, options=options) as channel:
            call = channel.unary_unary(INFER)(request.SerializeToString(), timeout=LONG_S)
            asking = asyncio.ensure_future(_data(call))
            await served.jobs(1)
            served.model.answer()
            assert len(await asking) > size

    run(use)


async def _data(call: Any) -> bytes:
    data: bytes = await call
    return data
