"""The models in service, and the way one replaces another without a gap.

A new version is loaded beside the old one, in a thread; it warms up and passes its golden test there; then one
assignment on the event loop switches the name. What the old one still runs is answered by it, then it is closed and its
memory goes back to the system. Several versions of a name may stay in service, each under its version.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from edgewright.bundle.archive import read_manifest

from ..black_box import BlackBox
from ..control import BreakerMoved, BreakerState, Load
from ..engines.protocol import LoadOptions, ModelRefused
from ..memory_readings import MemoryReadings, read_memory
from .admission import NoRoom, refusal
from .assembly import assemble
from .guarded import Guarded
from .isolation import follow_worker, load_model
from .limits import Limits
from .loading import LoadedModel
from .memory import release_memory
from .recorder import CounterStore
from .refusal import Refusal, not_now
from .schedule.adaptive import NO_LANES, SHELLS
from .served_model import ServedModel
from .versions import InService, Versions

_log = logging.getLogger(__name__)


_HELD_RETRY_S = 5.0


def _tell_nobody(moved: BreakerMoved) -> None:
    del moved


class ModelTable:
    """All methods are called on the event loop; changes come one after the other, from one task."""

    def __init__(
        self,
        store: CounterStore,
        limits: Limits,
        options: LoadOptions,
        box: BlackBox | None = None,
        *,
        tell: Callable[[BreakerMoved], None] = _tell_nobody,
        read: Callable[[], MemoryReadings] = read_memory,
    ) -> None:
        self._store = store
        self._limits = limits
        self._options = options
        self._box = box
        self._tell = tell
        self._read = read
        self._versions = Versions()
        self._retiring: set[asyncio.Task[None]] = set()
        self._leaving: list[InService] = []
        self.loading: str | None = None
        """Name of the model that is being loaded."""
        self.held: frozenset[str] = frozenset()
        """Models that the agent loads later, because they made an earlier run of the server crash."""
        self.loads = 0
        self.failed_loads = 0

    def __iter__(self) -> Iterator[ServedModel]:
        return iter([each.served for each in self._versions])

    def find(self, name: str, version: str | None) -> ServedModel:
        """Return the model that serves a name: what it is and has done. Jobs go to `endpoint`.

        Raises:
            Refusal: 404, or 503 while it is loaded for the first time.
        """
        return self._find(name, version).served

    def count_shadow(self, name: str, version: str, rows: int, disagreements: int) -> None:
        """Note at a model how often it answered otherwise than the one whose shadow it is."""
        self.find(name, version).recorder.add_shadow(rows, disagreements)

    def endpoint(self, name: str, version: str | None) -> Guarded:
        """Return where jobs for a name go; without a version, to the one that the name means now.

        Raises:
            Refusal: 404, or 503 while it is loaded for the first time.
        """
        return self._find(name, version).endpoint

    def versions(self, name: str) -> tuple[str, ...]:
        """The versions of a name that are in service, in the order in which they were loaded."""
        return self._versions.of(name)

    @property
    def starting(self) -> bool:
        """True while a model that has no version in service is being loaded."""
        return self.loading is not None and self.loading not in self._versions

    async def load(self, wanted: Load) -> dict[str, float | int | str]:
        """Put a bundle in service; returns what the agent may want to know of it.

        Raises:
            Fault: it cannot be served; what ran before still runs, unless its settings say `swap = "replace"` and the
                two did not fit beside each other.
        """
        known = self._versions.get(wanted.model, wanted.version)
        if known is not None and known.beside and not wanted.beside and _same(known, wanted):
            self._after(self._versions.promote(known))
            return _detail(known.served, 0.0)
        self.loading = wanted.model
        try:
            await self._make_room(wanted)
            loaded = await asyncio.to_thread(load_model, wanted, self._options)
            try:
                entry = self._in_service(wanted, loaded)
            except BaseException:
                loaded.instance.close()
                raise
        except BaseException:
            self.failed_loads += 1
            raise
        finally:
            self.loading = None
        self.loads += 1
        self._after(self._versions.put(entry))
        served = entry.served
        _log.info("%s %s in service, p50 %.3f ms", served.name, served.version, served.p50_s * 1000)
        if self.loads == 1:  # nobody is served yet whom a pause would disturb, and starting left a megabyte of holes
            await asyncio.to_thread(release_memory)
        return _detail(served, loaded.load_s)

    def unload(self, name: str, version: str | None = None) -> None:
        """Take a model out of service, or one version of it; what it runs is answered first.

        Raises:
            ModelRefused: no such model.
        """
        taken = self._versions.take(name, version)
        if not taken:
            which = "" if version is None else f" version {version!r}"
            raise ModelRefused(f"model {name!r}{which} is not in service")
        self._after(taken)

    def tick(self, now_s: float) -> None:
        """Close counter files whose window is over, and forget old answers."""
        for each in (*self._versions, *self._leaving):
            each.served.tick(now_s)
            each.assembly.tick()

    async def retired(self) -> None:
        """Return when all that was replaced or unloaded is closed."""
        await asyncio.gather(*self._retiring)

    def close(self) -> None:
        """Close all counter files, at the end of the process."""
        for each in (*self._versions, *self._leaving):
            each.served.close()

    def _find(self, name: str, version: str | None) -> InService:
        found = self._versions.get(name, version)
        if found is not None:
            return found
        versions = self._versions.of(name)
        if not versions and self.loading == name:
            raise not_now(f"model '{name}' is being loaded")
        if not versions and name in self.held:
            raise not_now(f"model '{name}' made the server crash and is held back for a while", _HELD_RETRY_S)
        if not versions:
            raise Refusal(404, f"unknown model '{name[:200]}'")
        serves = ", ".join(versions)
        raise Refusal(404, f"model '{name}' has no version '{(version or '')[:200]}'; it serves {serves}")

    async def _make_room(self, wanted: Load) -> None:
        """Return when the model may be loaded: with `swap = "replace"`, after the old one has gone if need be."""
        manifest = await asyncio.to_thread(read_manifest, Path(wanted.directory))
        if (manifest.model, manifest.version) != (wanted.model, wanted.version):
            found = f"{manifest.model} {manifest.version}"
            raise ModelRefused(f"{wanted.directory} holds {found}, expected {wanted.model} {wanted.version}")
        need_bytes = manifest.memory.peak_bytes
        reason = refusal(need_bytes, self._read())
        old = self._versions.get(wanted.model, None)
        if reason and old is not None and wanted.settings.swap == "replace" and not wanted.beside:
            _log.warning("%s %s goes before its successor comes: %s", wanted.model, old.served.version, reason)
            self._versions.take(wanted.model, old.served.version)
            self._tell_versions()
            self._leaving.append(old)
            await self._end(old)
            reason = refusal(need_bytes, self._read())
        if reason:
            raise NoRoom(f"{wanted.model} {wanted.version}: {reason}")

    def _in_service(self, wanted: Load, loaded: LoadedModel) -> InService:
        box = self._box
        lanes = () if box is None else tuple(box.lane(wanted.model, wanted.version) for _ in range(SHELLS))
        served = ServedModel(
            loaded,
            bundle=wanted.bundle,
            store=self._store,
            limits=self._limits,
            settings=wanted.settings,
            lanes=lanes or NO_LANES,
        )

        def moved(state: BreakerState, reason: str, crashed: bool) -> None:
            served.statistics.breaker = state
            _log.warning("the breaker of %s %s is %s. %s", wanted.model, wanted.version, state, reason)
            self._tell(
                BreakerMoved(
                    model=wanted.model, version=wanted.version, state=state, reason=reason[:1000], crashed=crashed
                )
            )

        served.statistics.breaker = wanted.breaker
        assembly = assemble(served, wanted.settings, moved=moved, state=wanted.breaker)
        follow_worker(loaded, assembly, served.statistics)
        return InService(served, assembly, wanted.beside, lanes)

    def _after(self, replaced: list[InService]) -> None:
        """The names lead elsewhere now; what no name leads to is retired."""
        self._tell_versions()
        for each in replaced:
            self._leaving.append(each)
            task = asyncio.get_running_loop().create_task(self._end(each))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def _tell_versions(self) -> None:
        for each in self._versions:
            each.served.told_versions(self._versions.of(each.served.name))

    async def _end(self, entry: InService) -> None:
        await entry.served.retire()
        self._leaving.remove(entry)
        if self._box is not None:
            for lane in entry.lanes:
                self._box.release(lane)
        del entry
        await asyncio.to_thread(release_memory)


def _same(known: InService, wanted: Load) -> bool:
    return known.served.bundle == wanted.bundle and known.served.settings == wanted.settings


def _detail(served: ServedModel, load_s: float) -> dict[str, float | int | str]:
    mode = "inline" if served.scheduler.inline else "thread"
    return {"p50_ms": served.p50_s * 1000, "load_s": load_s, "mode": mode}
