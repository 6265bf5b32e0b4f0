"""Targets of inferences that are known without being taken apart again."""

from __future__ import annotations

Named = tuple[str, str | None]
"""A model, and its version where the target has one."""

_TARGETS = 1024
_LONGEST = 512
"""A target has up to 32 kB, most of it a query that nobody reads: a thousand of these would take 32 MB for ever."""


class Targets:
    """The last few targets by their exact bytes: bounded, whatever clients send."""

    def __init__(self) -> None:
        self._named: dict[bytes, Named] = {}
        self.get = self._named.get

    def keep(self, target: bytes, named: Named) -> None:
        """Remember what a target names, unless it is long."""
        if len(target) > _LONGEST:
            return
        if len(self._named) >= _TARGETS:
            self._named.clear()
        self._named[target] = named
