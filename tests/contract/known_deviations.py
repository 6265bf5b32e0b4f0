"""Where known servers differ from the protocol, and why we hold that it is they who differ.

A deviation turns its tests into expected failures, printed with the reason at the end of a run. One that a server has
mended turns the run red, so that this table stays true.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Deviation:
    """Tests that a server is known not to pass."""

    tests: tuple[str, ...]
    """Patterns of `file.py::test[parameter]`; `*` stands for anything, brackets for themselves."""
    reason: str
    always: bool = True
    """False where it depends on time or place whether the test fails."""

    def covers(self, node: str) -> bool:
        name = node.rpartition("/")[2].replace("[", "(").replace("]", ")")
        return any(fnmatchcase(name, test.replace("[", "(").replace("]", ")")) for test in self.tests)


DEVIATIONS: dict[str, tuple[Deviation, ...]] = {}
"""By the `name` in the server's metadata."""
