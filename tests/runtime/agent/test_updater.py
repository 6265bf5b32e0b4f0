"""The updater on a device in memory: orders that overtake, servers that die, disks that fill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgewright.runtime.agent.model_state import Order
from edgewright.runtime.agent.stand_ins import MemoryDevice
from edgewright.runtime.memory_storage import MemoryStorage
from edgewright.runtime.storage import ensure_directory
from edgewright.targets.faults import UserFault
from tests.runtime.agent.conftest import MakeBundle
from tests.runtime.small_bundle import SmallBundle


class Source:
    def __init__(self, archives: dict[str, Path]) -> None:
        self.archives = archives

    def open(self, path: str, offset: int) -> Iterator[bytes]:
        yield self.archives[path].read_bytes()[offset:]


class Bench:
    """A device with three releases to order."""

    def __init__(self, make_bundle: MakeBundle) -> None:
        self.bundles = {version: make_bundle(version, seed=int(version)) for version in ("1", "2", "3")}
        archives = {bundle.digest: bundle.archive for bundle in self.bundles.values()}
        self.storage = MemoryStorage()
        ensure_directory(self.storage, Path("/state"))
        self.broken: dict[str, str] = {}
        self.device = MemoryDevice(self.storage, Source(archives), archives, self.judge, "boot")
        self.device.start()

    def judge(self, directory: Path) -> str | None:
        version = msgspec.json.decode(self.storage.read(directory / "manifest.json"))["version"]
        return self.broken.get(version)

    def order(self, version: str, command: str, *, rollback: bool = False) -> None:
        bundle: SmallBundle = self.bundles[version]
        self.device.updater.order(
            Order(
                command=command,
                model="digits",
                version=version,
                bundle=bundle.digest,
                security_epoch=0,
                probation_s=10.0,
                size_bytes=bundle.archive.stat().st_size,
                source=bundle.digest,
                rollback=rollback,
            )
        )

    def ends(self) -> dict[str, str]:
        return {outcome.command: outcome.phase for outcome in self.device.updater.states["digits"].outcomes}

    @property
    def serving(self) -> str | None:
        bundle = self.device.server.serving.get("digits")
        return next((version for version, made in self.bundles.items() if made.digest == bundle), None)


@pytest.fixture
def bench(make_bundle: MakeBundle) -> Bench:
    return Bench(make_bundle)


def test_order_is_carried_out_once_however_often_it_comes(bench: Bench) -> None:
    for _ in range(3):
        bench.order("1", "c1")
        bench.device.loop.advance(6.0)
    bench.order("1", "c1")
    assert bench.ends() == {"c1": "confirmed"}
    assert [r.phase for r in bench.device.reports()].count("confirmed") == 1


def test_newer_order_waits_for_the_probation_of_the_older_one(bench: Bench) -> None:
    bench.order("1", "c1")
    bench.device.loop.advance(1.0)
    bench.order("2", "c2")
    bench.order("3", "c3")
    bench.device.loop.advance(1.0)
    assert bench.serving == "1"
    bench.device.loop.advance(30.0)
    assert bench.ends() == {"c1": "confirmed", "c3": "confirmed"}
    assert bench.serving == "3"


def test_fleet_takes_a_release_back_during_its_probation(bench: Bench) -> None:
    bench.order("1", "c1")
    bench.device.loop.advance(20.0)
    bench.order("2", "c2")
    bench.device.loop.advance(1.0)
    assert bench.serving == "2"
    bench.order("1", "c3", rollback=True)
    bench.device.loop.settle()
    assert bench.serving == "1"
    assert bench.ends() == {"c1": "confirmed", "c2": "rolled_back", "c3": "confirmed"}


def test_fleet_takes_a_release_back_after_its_confirmation(bench: Bench) -> None:
    bench.order("1", "c1")
    bench.device.loop.advance(20.0)
    bench.order("2", "c2")
    bench.device.loop.advance(20.0)
    bench.order("1", "c3", rollback=True)
    bench.device.loop.advance(20.0)
    assert bench.serving == "1"
    assert bench.ends()["c3"] == "confirmed"


def test_bundle_that_passes_its_trial_but_does_not_load_is_rolled_back(bench: Bench) -> None:
    bench.order("1", "c1")
    bench.device.loop.advance(20.0)
    judge = bench.device.server._judge
    bench.device.server._judge = lambda directory: "out of memory" if directory.name == "B" else judge(directory)
    bench.order("2", "c2")
    bench.device.loop.advance(1.0)
    assert bench.serving == "1"
    assert bench.ends()["c2"] == "rolled_back"


def test_first_bundle_that_does_not_load_leaves_nothing_active(bench: Bench) -> None:
    bench.device.server._judge = lambda _directory: "no engine"
    bench.order("1", "c1")
    bench.device.loop.advance(1.0)
    assert bench.serving is None
    assert bench.device.updater.states["digits"].active is None
    assert bench.ends() == {"c1": "rolled_back"}


def test_bundle_whose_server_is_down_is_not_confirmed(bench: Bench) -> None:
    bench.order("1", "c1")
    bench.device.loop.advance(1.0)
    bench.device.updater.server_crashed("killed")
    bench.device.loop.advance(100.0)
    assert bench.ends() == {}
    bench.device.updater.server_ready()
    bench.device.loop.advance(11.0)
    assert bench.ends() == {"c1": "confirmed"}


def test_full_disk_holds_the_update_up_and_it_goes_on_when_there_is_room(bench: Bench) -> None:
    bench.order("1", "c1")
    bench.device.loop.advance(20.0)
    bench.storage.capacity_bytes = 1
    bench.order("2", "c2")
    bench.device.loop.advance(3.0)
    assert bench.serving == "1"
    assert bench.device.updater.states["digits"].update is None
    bench.storage.capacity_bytes = None
    bench.device.loop.advance(30.0)
    assert bench.ends() == {"c1": "confirmed", "c2": "confirmed"}


def test_rollback_at_the_device_needs_something_to_go_back_to(bench: Bench) -> None:
    bench.order("1", "c1")
    bench.device.loop.advance(20.0)
    with pytest.raises(UserFault, match="no other bundle"):
        bench.device.updater.roll_back("digits", "local-1", 1.0)
    bench.order("2", "c2")
    bench.device.loop.advance(20.0)
    bench.device.updater.roll_back("digits", "local-2", 1.0)
    bench.device.loop.advance(5.0)
    assert bench.serving == "1"


def test_damaged_state_file_leaves_the_other_models_alone(bench: Bench) -> None:
    bench.order("1", "c1")
    bench.device.loop.advance(20.0)
    ensure_directory(bench.storage, Path("/state/models/other"))
    bench.storage.write(Path("/state/models/other/state.json"), b'{"half')
    archives = {bundle.digest: bundle.archive for bundle in bench.bundles.values()}
    again = MemoryDevice(bench.storage, Source(archives), archives, bench.judge, "boot-2")
    again.start()
    assert list(again.updater.states) == ["digits"]
    assert again.server.serving == {"digits": bench.bundles["1"].digest}
