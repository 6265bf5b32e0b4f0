"""The power goes off at every file operation of an update, in every way: a verified model serves, and it converges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgewright.bundle.manifest import Manifest
from edgewright.runtime.agent.model_state import Order
from edgewright.runtime.agent.stand_ins import MODELS, MemoryDevice
from edgewright.runtime.memory_storage import DAMAGES, Damage, MemoryStorage, PowerCut
from edgewright.runtime.storage import Storage, ensure_directory
from tests.runtime.agent.conftest import MakeBundle
from tests.runtime.small_bundle import SmallBundle

PROBATION_S = 10.0


class ArchiveSource:
    """The fleet's HTTP server: sends an archive in pieces, from any offset."""

    def __init__(self, archives: dict[str, Path]) -> None:
        self.archives = archives
        self.sent_bytes = 0

    def open(self, path: str, offset: int) -> Iterator[bytes]:
        content = self.archives[path].read_bytes()[offset:]
        for start in range(0, len(content), 8192):
            self.sent_bytes += len(content[start : start + 8192])
            yield content[start : start + 8192]


def judge_on(storage: Storage, spoiled: set[str]) -> object:
    """Return a judge that finds every half-written file, as loading with the golden test would."""

    def judge(directory: Path) -> str | None:
        try:
            manifest = msgspec.json.decode(storage.read(directory / "manifest.json"), type=Manifest)
            for entry in manifest.entries:
                content = storage.read(directory / entry.path)
                if hashlib.sha256(content).hexdigest() != entry.sha256.removeprefix("sha256:"):
                    return f"HALF-WRITTEN {entry.path}"
        except (OSError, msgspec.DecodeError) as error:
            return f"HALF-WRITTEN {error}"
        return "golden test failed" if manifest.version in spoiled else None

    return judge


class World:
    """One device, two releases, and a disk."""

    def __init__(self, old: SmallBundle, new: SmallBundle, *, spoiled: set[str]) -> None:
        self.old, self.new, self.spoiled = old, new, spoiled
        self.archives = {old.digest: old.archive, new.digest: new.archive}

    def boot(self, storage: MemoryStorage, boot: str) -> MemoryDevice:
        ensure_directory(storage, Path("/state"))
        source = ArchiveSource(self.archives)
        return MemoryDevice(storage, source, self.archives, judge_on(storage, self.spoiled), boot)  # type: ignore[arg-type]

    def order(self, bundle: SmallBundle, command: str) -> Order:
        return Order(
            command=command,
            model="digits",
            version=bundle.manifest.version,
            bundle=bundle.digest,
            security_epoch=0,
            probation_s=PROBATION_S,
            size_bytes=bundle.archive.stat().st_size,
            source=bundle.digest,
        )

    def with_old_release(self) -> MemoryStorage:
        storage = MemoryStorage()
        device = self.boot(storage, "boot-0")
        device.start()
        device.updater.order(self.order(self.old, "first"))
        device.loop.advance(PROBATION_S + 1)
        assert device.server.serving == {"digits": self.old.digest}
        return storage.rebooted(DAMAGES[0])

    def update(self, device: MemoryDevice) -> None:
        device.start()
        device.updater.order(self.order(self.new, "second"))
        device.loop.advance(PROBATION_S + 1)


def check(world: World, storage: MemoryStorage, expect: set[str]) -> MemoryDevice:
    """Boot after the cut: a verified model serves at once; the repeated order ends as expected."""
    device = world.boot(storage, "boot-2")
    device.start()
    served = device.server.serving.get("digits")
    assert served in {world.old.digest, world.new.digest}
    slot = device.updater.states["digits"].active
    judged = device.server._judge(MODELS / "digits" / str(slot))
    assert judged is None or "HALF-WRITTEN" not in judged
    device.updater.order(world.order(world.new, "second"))
    device.loop.advance(3 * PROBATION_S)
    state = device.updater.states["digits"]
    assert state.update is None
    assert state.active_slot is not None
    assert device.server.serving == {"digits": state.active_slot.bundle}
    ends = [outcome.phase for outcome in state.outcomes if outcome.command == "second"]
    assert len(ends) == 1
    assert ends[0] in expect
    reported = [record.phase for record in device.reports() if record.command == "second"]
    assert reported.count(ends[0]) >= 1
    assert sum(phase in ("confirmed", "failed", "rolled_back", "refused") for phase in reported) == 1
    assert state.active_slot.bundle == (world.new.digest if ends[0] == "confirmed" else world.old.digest)
    return device


def operations_of_an_update(world: World) -> int:
    storage = world.with_old_release()
    world.update(world.boot(storage, "boot-1"))
    return storage.operations


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_cut_at_every_operation_of_a_good_update(make_bundle: MakeBundle, damage: Damage) -> None:
    world = World(make_bundle("1"), make_bundle("2", seed=2), spoiled=set())
    total = operations_of_an_update(world)
    assert total > 60
    before = world.with_old_release()
    for cut_at in range(1, total + 1):
        storage = before.rebooted(DAMAGES[0])
        storage.cut_at = cut_at
        with pytest.raises(PowerCut):
            world.update(world.boot(storage, "boot-1"))
        check(world, storage.rebooted(damage), {"confirmed"})


@pytest.mark.parametrize("damage", [DAMAGES[0], DAMAGES[-2]], ids=lambda damage: damage.name)
def test_cut_at_every_operation_of_a_bad_update(make_bundle: MakeBundle, damage: Damage) -> None:
    world = World(make_bundle("1"), make_bundle("2", seed=2), spoiled={"2"})
    total = operations_of_an_update(world)
    before = world.with_old_release()
    for cut_at in range(1, total + 1):
        storage = before.rebooted(DAMAGES[0])
        storage.cut_at = cut_at
        with pytest.raises(PowerCut):
            world.update(world.boot(storage, "boot-1"))
        check(world, storage.rebooted(damage), {"failed"})


def test_device_that_is_cut_again_and_again_keeps_the_old_release(make_bundle: MakeBundle) -> None:
    world = World(make_bundle("1"), make_bundle("2", seed=2), spoiled=set())
    storage = world.with_old_release()
    device = world.boot(storage, "boot-1")
    device.start()
    device.updater.order(world.order(world.new, "second"))
    device.loop.advance(1.0)
    assert device.updater.states["digits"].update is not None
    for number in range(2, 5):
        storage = storage.rebooted(DAMAGES[0])
        device = world.boot(storage, f"boot-{number}")
        device.start()
        assert device.server.serving["digits"] in {world.old.digest, world.new.digest}
    outcome = device.updater.states["digits"].outcomes[-1]
    assert (outcome.command, outcome.phase) == ("second", "rolled_back")
    assert "died 3 times" in outcome.reason
    assert device.server.serving == {"digits": world.old.digest}


def test_resumed_download_fetches_only_what_is_missing(make_bundle: MakeBundle) -> None:
    world = World(make_bundle("1"), make_bundle("2", seed=2), spoiled=set())
    storage = world.with_old_release()
    first = next(i for i, _ in enumerate(range(1000), 1) if _has_part(world, i))
    storage.cut_at = first + 1
    with pytest.raises(PowerCut):
        world.update(world.boot(storage, "boot-1"))
    kept = next(damage for damage in DAMAGES if damage.name == "names-kept")
    after = storage.rebooted(kept)
    part = Path("/state/downloads") / f"{world.new.digest.removeprefix('sha256:')}.part"
    have = after.size_bytes(part)
    assert have > 0
    device = check(world, after, {"confirmed"})
    source = device.workshop.source
    assert isinstance(source, ArchiveSource)
    assert source.sent_bytes == world.new.archive.stat().st_size - have


def _has_part(world: World, cut_at: int) -> bool:
    storage = world.with_old_release()
    storage.cut_at = cut_at
    try:
        world.update(world.boot(storage, "boot-1"))
    except PowerCut:
        return any(".part" in line and line.startswith("append") for line in storage.log)
    return False
