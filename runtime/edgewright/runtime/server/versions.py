"""Which versions of which models are in service, and which of them a name alone means. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..black_box import Lane
from .assembly import Assembly
from .guarded import Guarded
from .served_model import ServedModel


@dataclass(slots=True, eq=False)
class InService:
    """A loaded model and what stands before it."""

    served: ServedModel
    assembly: Assembly
    beside: bool
    """Whether it was loaded beside the version that the name alone means."""
    lanes: tuple[Lane, ...] = ()

    @property
    def endpoint(self) -> Guarded:
        return self.assembly.endpoint


class Versions:
    """The table of names. What is replaced is returned: somebody must retire it."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, InService]] = {}
        self._default: dict[str, str] = {}

    def __iter__(self) -> Iterator[InService]:
        return iter([each for versions in self._names.values() for each in versions.values()])

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def of(self, name: str) -> tuple[str, ...]:
        """The versions of a name, in the order in which they were loaded."""
        return tuple(self._names.get(name, ()))

    def get(self, name: str, version: str | None) -> InService | None:
        """One version; with None, the one that the name alone means."""
        wanted = self._default.get(name) if version is None else version
        return None if wanted is None else self._names.get(name, {}).get(wanted)

    def put(self, entry: InService) -> list[InService]:
        """Add a version, or replace it; one that is not beside takes the place of the name's current one."""
        name, version = entry.served.name, entry.served.version
        old = self.get(name, None)
        replaced = [each for each in (self._names.get(name, {}).get(version),) if each is not None]
        self._names.setdefault(name, {}).pop(version, None)
        self._names[name][version] = entry
        if old is None or not entry.beside:
            self._default[name] = version
        if old is not None and not entry.beside and not old.beside and old.served.version != version:
            del self._names[name][old.served.version]
            replaced.append(old)
        return replaced

    def promote(self, entry: InService) -> list[InService]:
        """A version that is in service beside another takes its place."""
        entry.beside = False
        return [each for each in self.put(entry) if each is not entry]

    def take(self, name: str, version: str | None) -> list[InService]:
        """Remove one version, or all of a name."""
        versions = self._names.get(name, {})
        taken = [each for each in versions.values() if version in {None, each.served.version}]
        for each in taken:
            del versions[each.served.version]
        if not versions:
            self._names.pop(name, None)
            self._default.pop(name, None)
        elif self._default.get(name) not in versions:
            self._default[name] = next(reversed(versions))
        return taken
