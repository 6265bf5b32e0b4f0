"""STATE/breakers.json: what the agent remembers of bundles that made the server crash, across crashes and boots."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..storage import Storage, replace_file
from .blame import Memory, keep

_log = logging.getLogger(__name__)


class _Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int = 1
    memories: tuple[Memory, ...] = ()


class BreakerMemory:
    """One memory for each (model, bundle). A damaged file is an empty one: no bundle is kept out by accident."""

    def __init__(self, storage: Storage, path: Path) -> None:
        self._storage = storage
        self._path = path
        self._memories = {(memory.model, memory.bundle): memory for memory in self._read()}

    def __iter__(self) -> Iterator[Memory]:
        return iter(tuple(self._memories.values()))

    def get(self, model: str, bundle: str) -> Memory | None:
        """Return what is remembered of a bundle."""
        return self._memories.get((model, bundle))

    def put(self, memory: Memory) -> None:
        """Remember. A disk that refuses costs only what would have outlived this run."""
        before = self._memories.get((memory.model, memory.bundle))
        if memory == before:
            return
        self._memories[memory.model, memory.bundle] = memory
        self._write()

    def forget(self, model: str, bundle: str) -> bool:
        """Trust a bundle again because a person says so; False where nothing was held against it."""
        if self._memories.pop((model, bundle), None) is None:
            return False
        self._write()
        return True

    def _read(self) -> tuple[Memory, ...]:
        try:
            if not self._storage.exists(self._path):
                return ()
            return msgspec.json.decode(self._storage.read(self._path), type=_Content).memories
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            _log.error("%s is damaged, no bundle is kept out: %s", self._path, error)
            return ()

    def _write(self) -> None:
        self._memories = {(memory.model, memory.bundle): memory for memory in keep(tuple(self._memories.values()))}
        content = msgspec.json.encode(_Content(memories=tuple(self._memories.values())))
        try:
            replace_file(self._storage, self._path, msgspec.json.format(content, indent=1) + b"\n")
        except OSError as error:
            _log.error("cannot write %s: %s", self._path, error)
