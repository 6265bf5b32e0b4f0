"""Stands between the updates and the server: a bundle that made the server crash waits, is tried, or stays out.

What follows from a crash is decided in `blame`; this carries it out. A bundle that is out fails to load, with the
reason: then the rules of `update` take the model back to its last known good slot, if it has one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..black_box import Executing
from ..control import BreakerMoved, BreakerState
from ..serving import ModelSettings
from . import blame
from .breaker_memory import BreakerMemory
from .conversation import Answer
from .loop import Scheduler, Timer
from .model_state import Slot
from .vital_signs import STOPPED_S

_log = logging.getLogger(__name__)


class GuardedServer(Protocol):
    """The server, as far as the guard goes."""

    def load(
        self,
        model: str,
        slot: Slot,
        directory: Path,
        done: Answer,
        *,
        settings: ModelSettings,
        breaker: BreakerState,
        beside: bool,
    ) -> None:
        """Load a bundle; does nothing where no server is ready."""

    def unload(self, model: str, version: str | None = None) -> None:
        """Stop serving a model, or one version of it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    model: str
    slot: Slot
    directory: Path
    done: Answer
    beside: bool


class Guard:
    """Lives on the agent's loop."""

    def __init__(
        self,
        loop: Scheduler,
        server: GuardedServer,
        memory: BreakerMemory,
        settings_of: Callable[[str], ModelSettings],
        wall_clock: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._server = server
        self._memory = memory
        self._settings_of = settings_of
        self._wall_clock = wall_clock
        self._asked: dict[tuple[str, bool], _Asked] = {}
        self._timers: dict[tuple[str, bool], Timer] = {}

    def load(self, model: str, slot: Slot, directory: Path, done: Answer, *, beside: bool = False) -> None:
        """Have a bundle loaded: now, after its pause, or not at all; `done` gets None or the reason why not."""
        self._asked[model, beside] = _Asked(model, slot, directory, done, beside)
        self._stop_timer((model, beside))
        self._try((model, beside))

    def unload(self, model: str, version: str | None = None) -> None:
        """Stop serving a model."""
        for key, asked in tuple(self._asked.items()):
            if asked.model == model and version in {None, asked.slot.version}:
                self._stop_timer(key)
                del self._asked[key]
        self._server.unload(model, version)

    def crashed(
        self,
        executing: Sequence[Executing],
        loading: tuple[str, str] | None,
        *,
        reason: str,
        verdict: str | None,
        now_ns: int,
    ) -> frozenset[str]:
        """The server is gone: remember who was at it. Returns the models that are to blame."""
        # A server that did not answer was held up by what began before that, not by what it began just now.
        since_ns = now_ns - (int(STOPPED_S * 1e9) if verdict else 0)
        at_work = [(each.model, each.version) for each in executing if each.since_ns <= since_ns]
        names = set(blame.suspects(at_work, loading, reason, verdict))
        suspects = [asked for asked in self._asked.values() if (asked.model, asked.slot.version) in names]
        for asked in suspects:
            self._strike(asked, 1 / len(suspects), reason)
        return frozenset(asked.model for asked in suspects)

    def breaker_moved(self, moved: BreakerMoved) -> None:
        """The server says that a model's own process died, or that its breaker closed again."""
        for asked in tuple(self._asked.values()):
            if (asked.model, asked.slot.version) == (moved.model, moved.version):
                self._remember_moved(asked, moved)

    def forgive(self, model: str, bundle: str) -> None:
        """A person wants a bundle to be tried again."""
        if self._memory.forget(model, bundle):
            for key, asked in tuple(self._asked.items()):
                if (asked.model, asked.slot.bundle) == (model, bundle):
                    self._stop_timer(key)
                    self._try(key)

    def holds(self, model: str, slot: Slot | None) -> bool:
        """Whether a bundle is not loaded for now because of what it did."""
        memory = None if slot is None else self._memory.get(model, slot.bundle)
        return memory is not None and memory.state in ("open", "out")

    def overdue(self, executing: Sequence[Executing], now_ns: int) -> str | None:
        """Return why the server must go although it answers: an execution on one of its threads hangs."""
        for each in executing:
            settings = self._settings_of(each.model)
            # The server ends a hanging worker by itself; only where that fails it is our turn.
            grace_s = 2.0 if settings.isolation == "shared" else 10.0
            for_s = (now_ns - each.since_ns) / 1e9
            if for_s > settings.execution_timeout_ms / 1000 + grace_s:
                return f"{each.model} {each.version} was executed for {for_s:.1f} s and did not end"
        return None

    def _try(self, key: tuple[str, bool]) -> None:
        asked = self._asked.get(key)
        if asked is None:
            return
        now_s = self._wall_clock()
        memory = self._memory.get(asked.model, asked.slot.bundle)
        longest_s = self._settings_of(asked.model).breaker.max_open_s
        left_s = blame.pause_left_s(memory, now_s, longest_s=longest_s)
        if left_s is None and memory is not None:
            reason = memory.reason
            self._loop.post(lambda: asked.done(reason))
        elif left_s:
            _log.warning("%s %s is loaded again in %.1f s", asked.model, asked.slot.version, left_s)
            self._timers[key] = self._loop.call_later(left_s, lambda: self._try(key))
        else:
            if memory is not None:
                memory = blame.tried(memory, now_s)
                self._memory.put(memory)
            self._load(key, asked, "half_open" if memory and memory.state == "half_open" else "closed")

    def _load(self, key: tuple[str, bool], asked: _Asked, breaker: BreakerState) -> None:
        def answered(reason: str | None) -> None:
            if breaker == "half_open" and reason is None and self._asked.get(key) is asked:
                self._stop_timer(key)
                self._timers[key] = self._loop.call_later(blame.STEADY_S, lambda: self._steady(asked))
            asked.done(reason)

        self._server.load(
            asked.model,
            asked.slot,
            asked.directory,
            answered,
            settings=self._settings_of(asked.model),
            breaker=breaker,
            beside=asked.beside,
        )

    def _steady(self, asked: _Asked) -> None:
        memory = self._memory.get(asked.model, asked.slot.bundle)
        if memory is not None:
            self._memory.put(blame.steady(memory, self._wall_clock()))

    def _strike(self, asked: _Asked, share: float, reason: str) -> blame.Memory:
        slot, settings = asked.slot, self._settings_of(asked.model).breaker
        before = self._memory.get(asked.model, slot.bundle)
        before = before or blame.Memory(model=asked.model, version=slot.version, bundle=slot.bundle)
        memory = blame.struck(
            before, self._wall_clock(), share, reason, first_s=settings.open_s, longest_s=settings.max_open_s
        )
        self._stop_timer((asked.model, asked.beside))
        self._memory.put(memory)
        _log.error("%s %s is to blame (%.0f %%): %s", asked.model, slot.version, 100 * share, memory.reason)
        return memory

    def _remember_moved(self, asked: _Asked, moved: BreakerMoved) -> None:
        memory = self._memory.get(asked.model, asked.slot.bundle)
        if moved.state == "closed" and memory is not None and memory.state == "open":
            self._memory.put(blame.tried(memory, self._wall_clock()))
        elif moved.state == "open" and moved.crashed and blame.is_workers_own_fault(moved.reason):
            memory = self._strike(asked, 1.0, moved.reason or "its worker process died")
            if memory.state == "out":
                asked.done(memory.reason)
                if self._asked.get((asked.model, asked.beside)) is asked:
                    # Nothing else has taken its place: it is taken out, and stays known for a later try.
                    self._server.unload(asked.model, asked.slot.version)

    def _stop_timer(self, key: tuple[str, bool]) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
