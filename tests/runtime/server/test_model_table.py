"""The models in service: versions beside each other, swaps without a gap, and memory that is asked for first."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.runtime.control import BreakerMoved, Load
from edgewright.runtime.engines.protocol import LoadOptions, ModelRefused
from edgewright.runtime.memory_readings import GroupMemory, MemoryReadings, read_memory
from edgewright.runtime.server.admission import NoRoom, refusal
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.model_table import ModelTable
from edgewright.runtime.server.pipeline import Job, Outcome
from edgewright.runtime.server.recorder import CounterStore
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.serving import ModelSettings
from tests.runtime.small_bundle import SmallBundle, digits_bundle

PLENTY = MemoryReadings(available_bytes=2**40)


class Place:
    """A table whose memory readings are what the test says."""

    def __init__(self, directory: Path) -> None:
        self.readings = [PLENTY]
        self.moves: list[BreakerMoved] = []
        self.table = ModelTable(
            CounterStore(directory, "boot", "run", 60),
            DEFAULT_LIMITS,
            LoadOptions(),
            tell=self.moves.append,
            read=lambda: self.readings.pop(0) if len(self.readings) > 1 else self.readings[0],
        )

    async def load(self, bundle: SmallBundle, *, beside: bool = False, **settings: Any) -> dict[str, Any]:
        manifest = bundle.manifest
        return await self.table.load(
            Load(
                id=1,
                model=manifest.model,
                version=manifest.version,
                bundle=bundle.digest,
                directory=str(bundle.directory),
                settings=ModelSettings(**settings),
                beside=beside,
            )
        )

    async def answered_by(self, version: str | None = None) -> str:
        answers: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        job = Job({"image": np.zeros((1, 64), np.float32)}, 1, 0)
        self.table.endpoint("digits", version).submit(job, answers.set_result)
        outcome = await asyncio.wait_for(answers, 60)
        assert outcome.refusal is None
        return outcome.version

    def versions(self) -> set[str]:
        return {model.version for model in self.table}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SmallBundle]:
    base = tmp_path_factory.mktemp("versions")
    return {name: digits_bundle(base / name, seed=int(name), version=name) for name in ("1", "2", "3")}


def run(story: Callable[[Place], Awaitable[None]], directory: Path) -> None:
    async def told() -> None:
        place = Place(directory)
        await story(place)
        await place.table.retired()
        place.table.close()

    asyncio.run(told())


def test_versions_stand_beside_each_other_and_the_name_alone_means_one(
    bundles: dict[str, SmallBundle], tmp_path: Path
) -> None:
    async def story(place: Place) -> None:
        await place.load(bundles["1"])
        await place.load(bundles["2"], beside=True)
        assert place.table.versions("digits") == ("1", "2")
        assert [await place.answered_by(version) for version in (None, "1", "2")] == ["1", "1", "2"]
        assert b'"versions":["1","2"]' in place.table.find("digits", "2").metadata
        await place.load(bundles["3"])  # takes the place of 1; the canary stays
        assert (await place.answered_by(), place.versions()) == ("3", {"2", "3"})
        with pytest.raises(Refusal, match="no version '1'; it serves 2, 3"):
            place.table.endpoint("digits", "1")
        place.table.unload("digits", "3")
        assert await place.answered_by() == "2"
        with pytest.raises(ModelRefused, match="version '3' is not in service"):
            place.table.unload("digits", "3")
        place.table.unload("digits")
        assert place.versions() == set()

    run(story, tmp_path)


def test_a_version_that_was_beside_takes_over_without_being_loaded_again(
    bundles: dict[str, SmallBundle], tmp_path: Path
) -> None:
    async def story(place: Place) -> None:
        await place.load(bundles["1"])
        await place.load(bundles["2"], beside=True)
        same = place.table.find("digits", "2")
        await place.load(bundles["2"])
        assert place.table.find("digits", None) is same
        assert (place.table.loads, place.versions()) == (2, {"2"})
        await place.load(bundles["2"], max_batch_rows=2)  # other settings: a load
        assert place.table.find("digits", None) is not same

    run(story, tmp_path)


def test_a_canary_that_comes_first_is_not_retired_by_the_version_that_it_stands_beside(
    bundles: dict[str, SmallBundle], tmp_path: Path
) -> None:
    async def story(place: Place) -> None:
        await place.load(bundles["2"], beside=True)
        assert await place.answered_by() == "2"
        await place.load(bundles["1"])
        assert (await place.answered_by(), await place.answered_by("2")) == ("1", "2")

    run(story, tmp_path)


def test_what_does_not_fit_beside_what_runs_is_refused_before_it_is_loaded(
    bundles: dict[str, SmallBundle], tmp_path: Path
) -> None:
    async def story(place: Place) -> None:
        await place.load(bundles["1"])
        place.readings = [MemoryReadings(available_bytes=1000)]
        with pytest.raises(NoRoom, match="not enough memory"):
            await place.load(bundles["2"])
        with pytest.raises(NoRoom):
            await place.load(bundles["2"], beside=True, swap="replace")
        assert (await place.answered_by(), place.table.failed_loads, place.table.loading) == ("1", 2, None)

    run(story, tmp_path)


def test_where_the_settings_say_so_the_old_one_goes_first(bundles: dict[str, SmallBundle], tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        await place.load(bundles["1"])
        place.readings = [MemoryReadings(available_bytes=1000), PLENTY]
        loading = asyncio.ensure_future(place.load(bundles["2"], swap="replace"))
        seen = set()
        while not loading.done():
            try:
                seen.add(await place.answered_by())
            except Refusal as refused:
                seen.add(str(refused.status))
            await asyncio.sleep(0)  # in every turn of the loop: between going and coming there is one, however short
        await loading
        assert seen <= {"1", "503", "2"}
        assert "503" in seen
        assert (await place.answered_by(), place.versions()) == ("2", {"2"})
        place.readings = [MemoryReadings(available_bytes=1000)]
        with pytest.raises(NoRoom):
            await place.load(bundles["3"], swap="replace")
        with pytest.raises(Refusal, match="unknown model"):
            place.table.find("digits", None)

    run(story, tmp_path)


def test_jobs_that_were_taken_are_answered_by_the_version_that_took_them(
    bundles: dict[str, SmallBundle], tmp_path: Path
) -> None:
    async def story(place: Place) -> None:
        await place.load(bundles["1"])
        old = place.table.endpoint("digits", None)
        outcomes: list[Outcome] = []
        for _ in range(5):
            old.submit(Job({"image": np.zeros((8, 64), np.float32)}, 8, 0), outcomes.append)
        await place.load(bundles["2"])
        await place.table.retired()
        assert [(outcome.version, outcome.refusal) for outcome in outcomes] == [("1", None)] * 5

    run(story, tmp_path)


def test_a_swap_takes_the_answers_that_were_kept_with_it(bundles: dict[str, SmallBundle], tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        await place.load(bundles["1"], cache_bytes=100_000)
        assert [await place.answered_by() for _ in range(2)] == ["1", "1"]
        first = place.table.find("digits", None).statistics
        assert (first.cache_hit.count, first.cache_miss.count) == (1, 1)
        assert first.success.count == 2
        await place.load(bundles["2"], cache_bytes=100_000)
        assert await place.answered_by() == "2"
        assert place.table.find("digits", None).statistics.cache_hit.count == 0

    run(story, tmp_path)


def test_a_model_that_was_replaced_is_gone_when_its_memory_is_given_back(
    bundles: dict[str, SmallBundle], tmp_path: Path
) -> None:
    """What is freed after the trim stays with the allocator: a whole model, until the next swap."""

    async def story(place: Place) -> None:
        await place.load(bundles["1"])
        old = weakref.ref(place.table.find("digits", None))
        replacing = asyncio.ensure_future(place.load(bundles["2"]))
        while not replacing.done():
            assert await place.answered_by() in {"1", "2"}
        await place.table.retired()
        assert old() is None, gc.get_referrers(old())

    run(story, tmp_path)


LIMITED = GroupMemory(limit_bytes=1000, used_bytes=900, reclaimable_bytes=50)


@pytest.mark.parametrize(
    ("need_bytes", "readings", "expected"),
    [
        (100, MemoryReadings(available_bytes=100), None),
        (101, MemoryReadings(available_bytes=100), "not enough memory"),
        (150, MemoryReadings(available_bytes=10_000, groups=(LIMITED,)), None),
        (151, MemoryReadings(available_bytes=10_000, groups=(LIMITED,)), "not enough memory"),
        (1, MemoryReadings(available_bytes=10_000, groups=(replace(LIMITED, used_bytes=2000),)), "not enough memory"),
        (10**9, MemoryReadings(available_bytes=None), None),
        (1, MemoryReadings(available_bytes=10_000, stalled_percent=10.5), "short of memory"),
        (1, MemoryReadings(available_bytes=10_000, stalled_percent=10.0), None),
    ],
)
def test_the_decision(need_bytes: int, readings: MemoryReadings, expected: str | None) -> None:
    reason = refusal(need_bytes, readings)
    assert (reason is None) if expected is None else (reason is not None and expected in reason)


def test_readings_come_from_the_kernel_and_every_group_above(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 600 kB\n",
        "proc/self/cgroup": "0::/system/edgewright\n",
        "proc/pressure/memory": "some avg10=9.00 avg60=0 avg300=0 total=1\nfull avg10=3.25 avg60=0 avg300=0 total=1\n",
        "sys/fs/cgroup/system/edgewright/memory.max": "max\n",
        "sys/fs/cgroup/system/edgewright/memory.high": "500000\n",
        "sys/fs/cgroup/system/edgewright/memory.current": "300000\n",
        "sys/fs/cgroup/system/edgewright/memory.stat": "anon 1\ninactive_file 20000\n",
        "sys/fs/cgroup/system/memory.max": "900000\n",
        "sys/fs/cgroup/system/memory.high": "max\n",
        "sys/fs/cgroup/system/memory.current": "850000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    readings = read_memory(tmp_path)
    assert readings.available_bytes == 600 * 1024
    assert readings.stalled_percent == 3.25
    assert [group.limit_bytes for group in readings.groups] == [500_000, 900_000]
    assert readings.free_bytes == 50_000
    assert read_memory(tmp_path / "nothing") == MemoryReadings(available_bytes=None)
    (tmp_path / "proc/pressure/memory").write_text("full avg10=much\n")
    assert read_memory(tmp_path).stalled_percent == 0
    assert read_memory().free_bytes > 0
