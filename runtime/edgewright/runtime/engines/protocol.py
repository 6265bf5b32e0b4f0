"""What an engine is: it loads the `model/` of a bundle and runs it.

To add an engine: write a module beside this one with a class that has these members, and name it in `catalog.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from edgewright.bundle.manifest import Manifest
from edgewright.targets.faults import EnvironmentFault, UserFault

if TYPE_CHECKING:
    from numpy.typing import NDArray


class EngineMissing(EnvironmentFault):
    """The engine is not installed on this machine, or its version does not fit; the message says how to get it."""


class ModelRefused(UserFault):
    """The engine cannot load this model, or the model is not what its manifest says."""


class WorkerLost(EnvironmentFault):
    """The process that runs the model ended, or was ended because it hung.

    Attributes:
        executing: whether this execution was under way in it, and may be the cause.
    """

    def __init__(self, reason: str, *, executing: bool) -> None:
        super().__init__(reason)
        self.executing = executing


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What this machine decides about a load, beside what the manifest asks for."""

    emulated: bool = False
    """Exact arithmetic instead of this machine's fastest: for a device that stands in for another target."""
    threads: int | None = None
    """Threads within one inference; None takes what the manifest says."""


class Instance(Protocol):
    """A loaded model. `run` may be called from several threads at one time; an engine that cannot locks inside."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name. Inputs fit the manifest: names, datatypes, shapes."""

    def close(self) -> None:
        """Give back the memory. No call of `run` is under way and none follows."""


@runtime_checkable
class Blocking(Protocol):
    """An instance whose `run` waits for another process: it never runs on the event loop, however fast it is."""

    blocking: bool


class Frame(Protocol):
    """Buffers for a batch of one size, bound to the model before. Used by one thread at a time."""

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """What to write into: every input, with as many rows as the frame has."""

    def run(self) -> dict[str, NDArray[Any]]:
        """Return every output by name, in arrays that nothing writes to later."""


@runtime_checkable
class Framed(Protocol):
    """An instance that can be spared work by buffers that it knows; what an engine may have beside `Instance`."""

    def frame(self, rows: int) -> Frame | None:
        """Return a frame with buffers of its own for a batch; None where this model cannot have one."""


class Engine(Protocol):
    """A way to load models."""

    name: str

    def version(self) -> str:
        """Return the version of the installed engine."""

    def load(self, directory: Path, manifest: Manifest, options: LoadOptions) -> Instance:
        """Load the model of an unpacked bundle.

        Raises:
            ModelRefused: this engine cannot load it, or it does not fit its manifest.
        """
