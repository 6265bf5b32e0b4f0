"""Loading and unloading of installed bundles: a client may name one, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgewright.runtime.control import Done, Failed, Load, Unload
from edgewright.runtime.engines.protocol import LoadOptions
from edgewright.runtime.server.changes import Changes
from edgewright.runtime.server.installed import InstalledModels
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.model_table import ModelTable
from edgewright.runtime.server.recorder import CounterStore
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.repository import Repository
from tests.runtime.small_bundle import SmallBundle, digits_bundle


def load_of(bundle: SmallBundle, model: str = "digits", version: str = "1") -> Load:
    return Load(id=1, model=model, version=version, bundle=bundle.digest, directory=str(bundle.directory))


def test_who_cannot_be_told_does_not_end_all_changes(tmp_path: Path) -> None:
    def gone(_: object) -> None:
        raise ConnectionError("gone")

    async def scenario() -> None:
        async with parts_in(tmp_path) as parts:
            parts.changes.ask(Unload(id=1, model="nothing"), gone)
            ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            parts.changes.ask(Unload(id=2, model="nothing"), ended.set_result)
            assert isinstance(await asyncio.wait_for(ended, 5), Failed)

    asyncio.run(scenario())


class Parts:
    def __init__(self, directory: Path) -> None:
        self.table = ModelTable(CounterStore(directory, "boot", "run", 60), DEFAULT_LIMITS, LoadOptions())
        self.installed = InstalledModels()
        self.changes = Changes(self.table, self.installed)
        self.repository = Repository(self.table, self.changes, self.installed)

    async def load(self, name: str) -> Refusal | None:
        ended: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self.repository.load(name, {}, ended.set_result)
        return await ended

    async def unload(self, name: str) -> Refusal | None:
        ended: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self.repository.unload(name, ended.set_result)
        return await ended

    @property
    def states(self) -> dict[str, str]:
        return {f"{each['name']} {each['version']}": each["state"] for each in self.repository.index()}


@asynccontextmanager
async def parts_in(directory: Path) -> AsyncIterator[Parts]:
    parts = Parts(directory)
    task = asyncio.create_task(parts.changes.run())
    try:
        yield parts
    finally:
        task.cancel()
        parts.table.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> SmallBundle:
    return digits_bundle(tmp_path_factory.mktemp("repository") / "digits-1")


def test_an_installed_model_is_loaded_unloaded_and_loaded_again(bundle: SmallBundle, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with parts_in(tmp_path) as parts:
            parts.installed.replace([load_of(bundle)])
            assert parts.states == {"digits 1": "UNAVAILABLE"}
            assert await parts.load("digits") is None
            assert parts.states == {"digits 1": "READY"}
            in_service = parts.table.find("digits", None)
            assert await parts.load("digits") is None
            assert parts.table.find("digits", None) is in_service
            assert await parts.unload("digits") is None
            assert parts.states == {"digits 1": "UNAVAILABLE"}
            assert parts.repository.index(ready_only=True) == []
            assert await parts.load("digits") is None

    asyncio.run(scenario())


def test_what_the_agent_loaded_can_be_loaded_again(bundle: SmallBundle, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with parts_in(tmp_path) as parts:
            done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            parts.changes.ask(load_of(bundle), done.set_result)
            assert isinstance(await done, Done)
            assert await parts.unload("digits") is None
            assert await parts.load("digits") is None

    asyncio.run(scenario())


def test_a_bundle_that_is_broken_leaves_a_reason_and_no_path(bundle: SmallBundle, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with parts_in(tmp_path) as parts:
            parts.installed.replace([load_of(bundle, version="2")])
            refusal = await parts.load("digits")
            assert refusal is not None
            assert refusal.status == 400
            assert str(bundle.directory) not in refusal.message
            assert parts.states == {"digits 2": "UNAVAILABLE"}

    asyncio.run(scenario())


def test_a_client_brings_no_files_and_names_nothing_that_is_not_installed(bundle: SmallBundle, tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.installed.replace([load_of(bundle)])
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}):
        with pytest.raises(Refusal) as caught:
            parts.repository.load("digits", parameters, lambda _: None)
        assert caught.value.status == 400
    for name in ("absent", "../digits", str(bundle.directory), ""):
        with pytest.raises(Refusal) as caught:
            parts.repository.load(name, {}, lambda _: None)
        assert caught.value.status == 404
        with pytest.raises(Refusal):
            parts.repository.unload(name, lambda _: None)


def test_thousands_of_changes_do_not_wait(bundle: SmallBundle, tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.installed.replace([load_of(bundle)])
    for _ in range(16):
        parts.repository.load("digits", {}, lambda _: None)
    with pytest.raises(Refusal) as caught:
        parts.repository.load("digits", {}, lambda _: None)
    assert caught.value.status == 503


def test_the_configuration_is_in_tritons_words(bundle: SmallBundle, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with parts_in(tmp_path) as parts:
            parts.installed.replace([load_of(bundle)])
            assert await parts.load("digits") is None
            config = parts.repository.config("digits")
            assert (config["name"], config["platform"], config["backend"]) == ("digits", "onnx_onnxv1", "onnxruntime")
            assert config["max_batch_size"] == 32
            assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [64]}]
            assert config["output"] == [{"name": "scores", "data_type": "TYPE_FP32", "dims": [10]}]
            assert config["version_policy"] == {"specific": {"versions": [1]}}
            assert parts.repository.statistics("digits")["model_stats"][0]["inference_count"] == 0
            with pytest.raises(Refusal):
                parts.repository.config("digits", "2")

    asyncio.run(scenario())
