"""What all targets of a run share, and the latencies that were measured in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgewright.bundle.manifest import PassRecord
from edgewright.targets.board import Board

from . import measure
from .data import Arrays, Dataset
from .data_warning import DataWarning
from .graph import Graph
from .lower.compiled import Compiled, digest_of
from .measure import Measurements
from .metrics import Budget, Metric
from .plans import Plans
from .processing import ClientSide
from .report.progress import Stages
from .scratch import Scratch
from .tunings import Tunings
from .variants import Evaluator, Variant


class Timings:
    """Measured rounds of this run: from a record where one is given, else measured; kept for the new record."""

    def __init__(self, threads: int, recorded: Path | None) -> None:
        self._threads = threads
        self._path = recorded
        self._recorded = None if recorded is None else measure.read(recorded)
        self._used: dict[str, tuple[int, ...]] = {}

    @property
    def recorded(self) -> Measurements | None:
        """The record that is replayed."""
        return self._recorded

    @property
    def used(self) -> Measurements:
        """The record of everything that had a say in this run."""
        return Measurements(rounds_ns=dict(sorted(self._used.items())))

    def of(
        self, variants: Sequence[Variant], board: Board, sample: Arrays, stages: Stages
    ) -> dict[str, tuple[int, ...]]:
        """Rounds of each variant, by name; `sample` is what one call takes."""
        keys = {variant.name: measure.key(variant.model, board.digest(), self._threads) for variant in variants}
        if not set(keys.values()) <= set(self._used):
            self._used |= self._find({keys[variant.name]: variant.model for variant in variants}, sample, stages)
        return {name: self._used[key] for name, key in keys.items()}

    def beside_float(
        self, variant: Variant, floating: Variant, board: Board, sample: Arrays, stages: Stages
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Rounds of a variant that came up later, and of the float model that was timed again in turn with it."""
        late = measure.key(variant.model, board.digest(), self._threads)
        again = f"{measure.key(floating.model, board.digest(), self._threads)} beside {digest_of(variant.model)}"
        if late not in self._used or again not in self._used:
            self._used |= self._find({late: variant.model, again: floating.model}, sample, stages)
        return self._used[late], self._used[again]

    def shared(
        self, alone: Compiled, sharing: Compiled, board: Board, sample: Arrays, stages: Stages
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Rounds of code in one thread, and in turn with them of the same code in as many as it takes."""
        one = f"{measure.key(alone, board.digest(), 1)} beside threads"
        many = f"{measure.key(sharing, board.digest(), self._threads)} beside one thread"
        if not {one, many} <= set(self._used):
            self._used |= self._find({one: alone, many: sharing}, sample, stages)
        return self._used[one], self._used[many]

    def _find(self, models: Mapping[str, Compiled], sample: Arrays, stages: Stages) -> dict[str, tuple[int, ...]]:
        if self._recorded is not None and self._path is not None:
            return measure.replayed(self._recorded, list(models), self._path)
        with stages.stage("measuring on this machine", measure.MAX_ROUNDS) as advance:
            return measure.measure(models, sample, self._threads, advance)


@dataclass(frozen=True, kw_only=True)
class Build:
    """What all targets of a run share."""

    name: str
    version: str
    security_epoch: int
    threads: int
    graph: Graph
    source_digest: str
    data: Dataset
    """In the model's types."""
    client: ClientSide
    warnings: tuple[DataWarning, ...]
    variants: Mapping[str, Variant]
    offers: Mapping[str, tuple[str, ...]]
    """Names of the variants to try, by target."""
    plans: Plans
    no_int8: tuple[str, ...]
    """Why schemes that a board could use have no variant."""
    records: tuple[PassRecord, ...]
    tools: dict[str, str]
    metric: Metric
    budget: Budget
    evaluator: Evaluator
    timings: Timings
    tunings: Tunings
    engines: tuple[str, ...] | None
    """That may ship; None for all that a board has."""
    emit_c: bool
    host: Board
    scratch: Scratch
    stages: Stages

    @property
    def measurements(self) -> Measurements:
        """The record of everything measured that had a say in this run."""
        return msgspec.structs.replace(self.timings.used, tiles=self.tunings.used)

    def asks_for(self, engine: str) -> bool:
        """Whether the user names this engine, or needs it for what he names."""
        return self.emit_c or (self.engines is not None and engine in self.engines)

    def may_ship(self, engine: str) -> bool:
        """Whether the user lets this engine be used."""
        return self.engines is None or engine in self.engines
