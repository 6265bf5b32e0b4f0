"""The same client for asyncio, `tritonclient.http.aio`, unmodified, over aiohttp."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent warns about what it finds imported before it
    import tritonclient.http.aio as triton
    from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.extension("binary_tensor_data")  # what this client sends unless told otherwise


def image_input(rows: int = 1) -> Any:
    values = np.random.default_rng(3).uniform(size=(rows, 64)).astype(np.float32)
    tensor = triton.InferInput("image", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    return tensor


def test_health_metadata_and_statistics(v2_server: str) -> None:
    async def scenario() -> None:
        async with triton.InferenceServerClient(v2_server) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("digits", "1")
            assert not await client.is_model_ready("absent")
            assert (await client.get_model_metadata("digits"))["name"] == "digits"
            assert "binary_tensor_data" in (await client.get_server_metadata())["extensions"]
            assert (await client.get_inference_statistics("digits"))["model_stats"][0]["name"] == "digits"

    asyncio.run(scenario())


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
def test_many_at_one_time(v2_server: str, algorithm: str | None) -> None:
    async def scenario() -> None:
        async with triton.InferenceServerClient(v2_server) as client:
            asked = (
                client.infer("digits", [image_input(rows)], request_compression_algorithm=algorithm)
                for rows in range(1, 30)
            )
            for rows, result in enumerate(await asyncio.gather(*asked), start=1):
                assert result.as_numpy("scores").shape == (rows, 10)

    asyncio.run(scenario())


def test_errors_and_cancellation(v2_server: str) -> None:
    async def scenario() -> None:
        async with triton.InferenceServerClient(v2_server) as client:
            with pytest.raises(InferenceServerException, match="absent"):
                await client.infer("absent", [image_input()])
            tasks = [asyncio.create_task(client.infer("digits", [image_input(2000)])) for _ in range(20)]
            await asyncio.sleep(0.005)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (await client.infer("digits", [image_input()])).as_numpy("scores").shape == (1, 10)

    asyncio.run(scenario())


@pytest.mark.extension("model_repository")
def test_model_control(v2_admin: str) -> None:
    async def scenario() -> None:
        async with triton.InferenceServerClient(v2_admin) as client:
            assert {entry["name"] for entry in await client.get_model_repository_index()} >= {"digits", "echo"}
            await client.unload_model("echo")
            assert not await client.is_model_ready("echo")
            await client.load_model("echo")
            assert await client.is_model_ready("echo")

    asyncio.run(scenario())
