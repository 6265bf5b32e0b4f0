"""`tritonclient.grpc.aio`, unmodified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from tests.contract.grpc.conftest import SLOW_ROWS, image
from tests.contract.grpc.test_v2_grpc import image_input


def with_client(address: str, use: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        async with triton.InferenceServerClient(address) as client:
            await use(client)

    asyncio.run(run())


def test_health_metadata_statistics_and_model_control(grpc_address: str) -> None:
    async def use(client: Any) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("digits")
        assert not await client.is_model_ready("absent")
        assert (await client.get_model_metadata("digits")).name == "digits"
        assert (await client.get_model_config("digits")).config.name == "digits"
        assert (await client.get_inference_statistics("digits")).model_stats[0].name == "digits"
        await client.unload_model("echo")
        assert not await client.is_model_ready("echo")
        await client.load_model("echo")
        assert await client.is_model_ready("echo")

    with_client(grpc_address, use)


def test_many_inferences_at_once(grpc_address: str) -> None:
    async def use(client: Any) -> None:
        asked = [client.infer("digits", [image_input(image(1 + number))]) for number in range(30)]
        for number, result in enumerate(await asyncio.gather(*asked)):
            assert result.as_numpy("scores").shape == (1 + number, 10)

    with_client(grpc_address, use)


def test_a_cancelled_inference(grpc_address: str) -> None:
    async def use(client: Any) -> None:
        tasks = [asyncio.create_task(client.infer("slow", [image_input(image(SLOW_ROWS))])) for _ in range(4)]
        await asyncio.sleep(0.05)
        for task in tasks[1:]:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(end, asyncio.CancelledError) for end in ends] == [False, True, True, True]
        with pytest.raises(InferenceServerException):
            await client.infer("slow", [image_input(image(SLOW_ROWS))], client_timeout=0.01)

    with_client(grpc_address, use)


def test_a_stream(grpc_address: str) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(5):
            yield {"model_name": "digits", "inputs": [image_input(image())], "request_id": str(number)}

    async def use(client: Any) -> None:
        answers = [answer async for answer in client.stream_infer(requests())]
        assert [result.get_response().id for result, error in answers if error is None] == ["0", "1", "2", "3", "4"]

    with_client(grpc_address, use)
