"""The client against a real server: what goes in comes out, and what is refused says why."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.runtime.client import (
    AnswerTimeout,
    AsyncClient,
    Client,
    ClientError,
    ServerRefused,
    Unreachable,
)
from edgewright.runtime.client.retry import Retry
from edgewright.runtime.server.child import listen_unix
from tests.runtime.client.conftest import Served
from tests.runtime.small_bundle import DATATYPES


def images(rows: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(3).uniform(size=(rows, 64)).astype(np.float32)


def expected(served: Served, values: NDArray[Any]) -> NDArray[Any]:
    return served.digits.run({"image": values})["scores"]


@pytest.mark.parametrize("way", ["tcp", "unix", "tensors"])
@pytest.mark.parametrize("rows", [1, 300, 5000])
def test_arrays_in_and_out(served: Served, way: str, rows: int) -> None:
    values = images(rows)
    with Client(getattr(served, way)) as client:
        result = client.infer("digits", {"image": values}, id="seven", version="1")
    np.testing.assert_allclose(result["scores"], expected(served, values), rtol=1e-5)
    assert (result.model, result.version, result.id) == ("digits", "1", "seven")
    assert result["scores"].flags.writeable or way == "tensors"


@pytest.mark.parametrize("way", ["tcp", "tensors"])
@pytest.mark.parametrize("rows", [2, 2000])
def test_every_datatype(served: Served, way: str, rows: int) -> None:
    inputs: dict[str, NDArray[Any]] = {
        f"in_{name.lower()}": np.arange(rows * 3).reshape(rows, 3).astype(kind) for name, (_, kind) in DATATYPES.items()
    }
    with Client(getattr(served, way)) as client:
        outputs = client.infer("echo", inputs).outputs
        some = client.infer("echo", inputs, outputs=("out_fp16", "out_bool")).outputs
    assert list(some) == ["out_fp16", "out_bool"]
    for name, array in inputs.items():
        found = outputs[name.replace("in_", "out_")]
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_arrays_of_any_layout_and_byte_order(served: Served) -> None:
    values = images(4)
    with Client(served.tcp) as client:
        for layout in (np.asfortranarray(values), values.astype(">f4"), np.repeat(values, 2, axis=1)[:, ::2]):
            np.testing.assert_allclose(
                client.infer("digits", {"image": layout})["scores"], expected(served, values), rtol=1e-5
            )


@pytest.mark.parametrize("way", ["unix", "tensors"])
def test_health_metadata_and_statistics(served: Served, way: str) -> None:
    with Client(getattr(served, way)) as client:
        assert client.alive()
        assert client.ready()
        assert client.ready("digits", version="1")
        assert not client.ready("absent")
        assert "binary_tensor_data" in client.metadata().extensions
        described = client.model_metadata("digits")
        assert [(each.name, each.datatype, each.shape) for each in described.inputs] == [("image", "FP32", (-1, 64))]
        before = client.statistics("digits")[0]["inference_count"]
        client.infer("digits", {"image": images(3)})
        assert client.statistics("digits")[0]["inference_count"] == before + 3
        assert {entry["name"] for entry in client.statistics()} == {"digits", "echo"}


@pytest.mark.parametrize("way", ["tcp", "tensors"])
def test_a_refusal_has_status_and_reason(served: Served, way: str) -> None:
    with Client(getattr(served, way)) as client:
        with pytest.raises(ServerRefused, match="absent") as caught:
            client.infer("absent", {"image": images()})
        assert caught.value.status == 404
        with pytest.raises(ServerRefused, match="63") as caught:
            client.infer("digits", {"image": np.zeros((1, 63), np.float32)})
        assert caught.value.status == 400
        with pytest.raises(ServerRefused) as caught:
            client.load("digits")  # not an admin listener
        assert 400 <= caught.value.status < 500
        assert client.infer("digits", {"image": images()})["scores"].shape == (1, 10)


def test_a_type_that_the_protocol_has_not(served: Served) -> None:
    with Client(served.tcp) as client, pytest.raises(TypeError, match="complex128"):
        client.infer("digits", {"image": np.zeros((1, 64), np.complex128)})


@pytest.mark.parametrize("way", ["tcp", "tensors"])
def test_one_connection_is_used_again(served: Served, way: str) -> None:
    with Client(getattr(served, way)) as client:
        client.infer("digits", {"image": images()})
        (first,) = client._idle
        for _ in range(5):
            client.infer("digits", {"image": images()})
        assert client._idle == [first]


@pytest.mark.parametrize("way", ["unix", "tensors"])
def test_threads_share_a_client(served: Served, way: str) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        values = np.random.default_rng(seed).uniform(size=(seed + 1, 64)).astype(np.float32)
        for _ in range(20):
            found = client.infer("digits", {"image": values})["scores"]
            if not np.allclose(found, expected_of[seed], rtol=1e-4):
                wrong.append(seed)

    expected_of = {
        seed: expected(served, np.random.default_rng(seed).uniform(size=(seed + 1, 64)).astype(np.float32))
        for seed in range(6)
    }
    with Client(getattr(served, way)) as client:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("scheme", ["unix", "tensors"])
def test_nobody_listens(tmp_path: Path, scheme: str) -> None:
    with Client(f"{scheme}://{tmp_path / 'nothing'}") as client, pytest.raises(Unreachable) as caught:
        client.alive()
    assert not caught.value.sent


def test_a_server_that_is_silent(tmp_path: Path) -> None:
    with listen_unix(tmp_path / "s"), Client(f"unix://{tmp_path / 's'}") as client:
        begun_s = time.monotonic()
        with pytest.raises(AnswerTimeout):
            client.infer("digits", {"image": images()}, timeout_s=0.1)
        assert time.monotonic() - begun_s < 30


def test_a_closed_client(served: Served) -> None:
    client = Client(served.tcp)
    client.close()
    with pytest.raises(ClientError, match="closed"):
        client.alive()


def test_a_server_that_starts_late_is_waited_for() -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))  # nobody else gets the port, and nobody listens yet

        def start() -> None:
            late.listen()
            accepted, _ = late.accept()
            with accepted:
                accepted.recv(4096)
                accepted.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        timer = threading.Timer(0.02, start)
        timer.start()
        patient = Retry(attempts=1000, longest_pause_s=0.05)  # the timer may be late
        with Client(f"http://127.0.0.1:{late.getsockname()[1]}", retry=patient) as client:
            assert client.alive()
        timer.join()


def test_async(served: Served) -> None:
    async def scenario() -> None:
        async with AsyncClient(served.tcp) as client:
            values = [images(rows) for rows in range(1, 20)]
            results = await asyncio.gather(*(client.infer("digits", {"image": each}) for each in values))
            for each, result in zip(values, results, strict=True):
                np.testing.assert_allclose(result["scores"], expected(served, each), rtol=1e-5)
            assert await client.alive()
            assert await client.ready("digits")
            assert (await client.metadata()).name
            assert (await client.model_metadata("digits")).name == "digits"
            assert (await client.statistics("digits"))[0]["name"] == "digits"
            with pytest.raises(ServerRefused):
                await client.infer("absent", {"image": values[0]})
            with pytest.raises(ServerRefused):
                await client.unload("digits")  # not an admin listener

    asyncio.run(scenario())


def test_async_over_a_unix_socket_with_a_large_tensor(served: Served) -> None:
    values = images(20_000)

    async def scenario() -> NDArray[Any]:
        async with AsyncClient(served.unix) as client:
            return (await client.infer("digits", {"image": values}))["scores"]

    np.testing.assert_allclose(asyncio.run(scenario()), expected(served, values), rtol=1e-4)


def test_async_timeouts_and_cancellation(tmp_path: Path) -> None:
    async def scenario(listening: socket.socket) -> list[socket.socket]:
        loop = asyncio.get_running_loop()
        async with AsyncClient(f"unix://{tmp_path / 's'}") as client:
            late = asyncio.create_task(client.infer("digits", {"image": images()}, timeout_s=0.5))
            first, _ = await loop.sock_accept(listening)
            with pytest.raises(AnswerTimeout):
                await late
            task = asyncio.create_task(client.alive())
            second, _ = await loop.sock_accept(listening)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return [first, second]

    with listen_unix(tmp_path / "s") as listening:
        listening.setblocking(False)
        for accepted in asyncio.run(scenario(listening)):
            with accepted:
                accepted.settimeout(60)
                while accepted.recv(65536):
                    pass  # its end was told to the server


def test_async_nobody_listens(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with AsyncClient(f"unix://{tmp_path / 'nothing'}") as client:
            await client.alive()

    with pytest.raises(Unreachable):
        asyncio.run(scenario())
