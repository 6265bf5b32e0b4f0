"""Which tile every native kernel uses: from a record, from the cache, or timed on this machine, in that order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgewright.targets.board import Board

from .cache import Cache, digest_of
from .lower.native.machine import Machine, machine_of
from .lower.native.net import Net
from .lower.native.shape_key import shape_key
from .lower.native.tune import Choice, tune

KIND = "native-tile-1"
SOURCES = Path(__file__).parent / "lower" / "native"


class Tunings:
    """The choices of one build."""

    def __init__(self, host: Board, limit_s: float, recorded: dict[str, Choice] | None, cache: Cache | None) -> None:
        self._host = machine_of(host)
        self._limit_s = limit_s
        self._recorded = recorded
        self._cache = cache
        self._processor = f"{host.cpu.model} {' '.join(host.cpu.isa)}"
        self._used: dict[str, Choice] = {}

    @property
    def used(self) -> dict[str, Choice]:
        """Every choice that had a say in this build."""
        return dict(sorted(self._used.items()))

    def choices(
        self, nets: Sequence[Net], machine: Machine, advance: Callable[[int], None] = lambda _: None
    ) -> dict[str, Choice]:
        """Choices for the layers of some nets; none for a machine that is not this one, whose facts choose."""
        if self._recorded is not None:
            self._used |= {key: choice for key, choice in self._recorded.items() if key in self._keys(nets, machine)}
        elif machine == self._host and self._limit_s > 0:
            self._used |= self._cached(self._keys(nets, machine))
            found = tune((layer for net in nets for layer in net.layers), machine, self._used, self._limit_s, advance)
            self._keep(found)
            self._used |= found
        return self._used

    def _keys(self, nets: Sequence[Net], machine: Machine) -> set[str]:
        return {shape_key(layer, machine) for net in nets for layer in net.layers}

    def _cached(self, keys: set[str]) -> dict[str, Choice]:
        if self._cache is None:
            return {}
        found = {key: self._cache.get(self._place(key)) for key in sorted(keys)}
        return {key: msgspec.json.decode(content, type=Choice) for key, content in found.items() if content is not None}

    def _keep(self, found: dict[str, Choice]) -> None:
        if self._cache is not None:
            for key, choice in found.items():
                self._cache.put(self._place(key), msgspec.json.encode(choice))

    def _place(self, key: str) -> str:
        return digest_of([KIND, self._processor, _sources(), key])


def _sources() -> str:
    """Of all code that writes kernels: what was fastest once need not be so after a change."""
    total = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in {".py", ".h"}:
            total.update(path.read_bytes())
    return total.hexdigest()
