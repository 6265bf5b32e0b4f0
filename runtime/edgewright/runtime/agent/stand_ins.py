"""A device in memory: stand-ins of what the updater works with, on a disk that can lose its power. For tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edgewright.bundle.archive import read_manifest, unpack

from ..storage import Storage
from ..telemetry.records import UpdateRecord
from ..telemetry.spool import Spool
from .fetch import Downloads, FetchLimits
from .http_source import ByteSource
from .jobs import Cancelled, InlineJobs
from .loop import VirtualLoop
from .model_state import Order, Slot, SlotName
from .slots import SlotStore
from .surroundings import Refused, Surroundings
from .updater import Updater
from .workshop import TrialFault

MODELS = Path("/state/models")


class MemoryServer:
    """Serves what it was told to load, if `judge` finds nothing wrong with the directory."""

    def __init__(self, loop: VirtualLoop, judge: Callable[[Path], str | None]) -> None:
        self._loop = loop
        self._judge = judge
        self.ready = False
        self.serving: dict[str, str] = {}
        """Bundle by model."""

    def load(self, model: str, slot: Slot, directory: Path, done: Callable[[str | None], None]) -> None:
        if not self.ready:
            return
        reason = self._judge(directory)
        if reason is None:
            self.serving[model] = slot.bundle
        self._loop.post(lambda: done(reason))

    def unload(self, model: str) -> None:
        self.serving.pop(model, None)


@dataclass
class MemoryWorkshop:
    """Real downloads and real unpacking onto the disk in memory; the trial only judges the files."""

    storage: Storage
    store: SlotStore
    source: ByteSource
    archives: dict[str, Path]
    """Where on the real disk an archive lies that was downloaded, by digest: `unpack` reads there."""
    judge: Callable[[Path], str | None]
    refuse: dict[str, str] = field(default_factory=dict)
    """Reasons to refuse a bundle, by digest."""

    def fetch(self, order: Order, security_floor: int, cancelled: Cancelled) -> None:
        del security_floor
        self._downloads().fetch(order.bundle, order.source, order.size_bytes, self.source, cancelled)
        if order.bundle in self.refuse:
            raise Refused(self.refuse[order.bundle])

    def unpack(self, order: Order, slot: SlotName, security_floor: int, cancelled: Cancelled) -> Slot:
        del security_floor, cancelled
        self.store.clear(order.model, slot)
        archive = self.archives[order.bundle]
        directory = self.store.directory(order.model, slot)
        unpack(archive, directory, expected_digest=order.bundle, filesystem=self.storage)
        epoch = read_manifest(archive).security_epoch
        return Slot(
            bundle=order.bundle, version=order.version, security_epoch=epoch, peak_bytes=0, command=order.command
        )

    def try_out(self, directory: Path, cancelled: Cancelled) -> None:
        del cancelled
        reason = self.judge(directory)
        if reason:
            raise TrialFault(reason)

    def discard(self, bundle: str) -> None:
        self._downloads().discard(bundle)

    def _downloads(self) -> Downloads:
        return Downloads(self.storage, Path("/state/downloads"), FetchLimits(max_bytes=2**30, deadline_s=60.0))


class MemoryDevice:
    """One boot of a device on a disk in memory."""

    def __init__(
        self,
        storage: Storage,
        source: ByteSource,
        archives: dict[str, Path],
        judge: Callable[[Path], str | None],
        boot: str,
    ) -> None:
        self.loop = VirtualLoop()
        self.server = MemoryServer(self.loop, judge)
        store = SlotStore(storage, MODELS)
        self.workshop = MemoryWorkshop(storage, store, source, archives, judge)
        self.spool = Spool.open(storage, Path("/state/spool"), new_identity="spool", now_s=0.0)
        self.updater = Updater(
            Surroundings(
                loop=self.loop,
                store=store,
                workshop=self.workshop,
                serving=self.server,
                jobs=InlineJobs(),
                report=self._report,
                wall_clock=lambda: self.loop.now_s,
                boot=boot,
            )
        )

    def start(self) -> None:
        """What the daemon does after a boot."""
        spooled = [record for _, record in self.spool.read(1, max_bytes=2**30)]
        self.updater.start(lambda record: record in spooled)
        self.loop.settle()
        self.server.ready = True
        self.updater.server_ready()
        self.loop.settle()

    def reports(self) -> list[UpdateRecord]:
        """Every update record in the spool."""
        return [record for _, record in self.spool.read(1, max_bytes=2**30) if isinstance(record, UpdateRecord)]

    def _report(self, records: tuple[UpdateRecord, ...]) -> bool:
        for record in records:
            self.spool.append(record, self.loop.now_s)
        self.spool.commit()
        return True
