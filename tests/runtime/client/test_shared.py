"""Tensors in shared memory that are sent many times, and the client of asyncio over it."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.runtime.client import AnswerTimeout, AsyncClient, Client, ServerRefused, Unreachable, share
from edgewright.runtime.server.child import listen_tensors
from tests.runtime.client.conftest import Served
from tests.runtime.small_bundle import DATATYPES

ROWS = 400


def images(rows: int = ROWS) -> NDArray[np.float32]:
    return np.random.default_rng(5).uniform(size=(rows, 64)).astype(np.float32)


def open_memory() -> int:
    """Return how many descriptors of shared memory this process has."""
    links = list(Path("/proc/self/fd").iterdir())
    return sum("edgewright-tensors" in str(link.readlink()) for link in links if link.is_symlink())


@pytest.mark.parametrize("way", ["tcp", "unix", "tensors"])
@pytest.mark.parametrize("rows", [1, ROWS])
def test_what_is_shared_once_is_sent_many_times(served: Served, way: str, rows: int) -> None:
    values = images(rows)
    wanted = served.digits.run({"image": values})["scores"]
    before = open_memory()
    with share({"image": values}) as shared, Client(getattr(served, way)) as client:
        values[:] = 0  # a copy was taken
        held = open_memory()  # the mapping has one of its own
        for number in range(20):
            result = client.infer("digits", shared, id=str(number))
            np.testing.assert_allclose(result["scores"], wanted, rtol=1e-5)
            assert result.id == str(number)
        assert before < open_memory() == held
    gc.collect()
    assert open_memory() == before


@pytest.mark.parametrize("way", ["tcp", "tensors"])
def test_inputs_of_every_kind_are_shared(served: Served, way: str) -> None:
    inputs: dict[str, NDArray[Any]] = {
        f"in_{name.lower()}": np.arange(3000).reshape(1000, 3).astype(kind) for name, (_, kind) in DATATYPES.items()
    }
    with share(inputs) as shared, Client(getattr(served, way)) as client:
        outputs = client.infer("echo", shared).outputs
    for name, array in inputs.items():
        np.testing.assert_array_equal(outputs[name.replace("in_", "out_")], array)


def test_shared_memory_goes_with_its_object() -> None:
    before = open_memory()
    shared = share({"image": images()})
    assert open_memory() > before
    del shared
    gc.collect()
    assert open_memory() == before


def test_what_is_closed_or_empty_is_not_sent(served: Served) -> None:
    shared = share({"image": images()})
    shared.close()
    shared.close()
    with Client(served.tensors) as client, pytest.raises(ValueError, match="closed"):
        client.infer("digits", shared)
    with pytest.raises(ValueError, match="nothing to share"):
        share({"image": np.zeros((0, 64), np.float32)})


@pytest.mark.parametrize("rows", [1, ROWS])
def test_an_event_loop_over_shared_memory(served: Served, rows: int) -> None:
    values = images(rows)

    async def scenario() -> list[NDArray[np.float32]]:
        async with AsyncClient(served.tensors) as client:
            assert await client.ready("digits")
            with pytest.raises(ServerRefused, match="absent"):
                await client.infer("absent", {"image": values})
            with share({"image": values}) as shared:
                calls = [client.infer("digits", shared if n % 2 else {"image": values}) for n in range(20)]
                return [result["scores"] for result in await asyncio.gather(*calls)]

    before = open_memory()
    for scores in asyncio.run(scenario()):
        np.testing.assert_allclose(scores, served.digits.run({"image": values})["scores"], rtol=1e-5)
    gc.collect()
    assert open_memory() == before


def test_a_server_that_is_silent_or_not_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        with listen_tensors(tmp_path / "s"):
            async with AsyncClient(f"tensors://{tmp_path / 's'}") as client:
                with pytest.raises(AnswerTimeout):
                    await client.infer("digits", {"image": images()}, timeout_s=0.05)
        async with AsyncClient(f"tensors://{tmp_path / 'nothing'}") as client:
            with pytest.raises(Unreachable) as caught:
                await client.alive()
            assert not caught.value.sent

    before = open_memory()
    asyncio.run(scenario())
    assert open_memory() == before


def test_more_calls_than_the_socket_takes_wait_for_room(served: Served) -> None:
    """Each call has a connection, and the answers come in any order."""
    values = images()

    async def scenario() -> None:
        async with AsyncClient(served.tensors) as client:
            results = await asyncio.gather(*(client.infer("digits", {"image": values[: n + 1]}) for n in range(60)))
            assert [len(result["scores"]) for result in results] == list(range(1, 61))

    asyncio.run(scenario())
